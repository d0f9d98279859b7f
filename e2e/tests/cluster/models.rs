//! Agents that call models: through their sidecar and the gateway, against a scripted model API on this machine.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Node, Secret};
use kube::api::{Api, ListParams};
use kube::runtime::watcher;
use serde_json::{Value, json};
use stagecraft_api::error::Category;
use stagecraft_api::status::StagePhase;
use stagecraft_api::{Agent, ModelProvider, Workflow, WorkflowTemplate};
use stagecraft_e2e::scenario::samples::STAGE;
use stagecraft_e2e::scenario::waiting::until;
use stagecraft_e2e::scenario::world::stage;
use stagecraft_e2e::scenario::{Isolation, World, kubectl, scenario};
use stagecraft_model_server::{ModelServer, Step, Turn, Usage};

use crate::foreign_images::image;

const LIMIT: Duration = Duration::from_mins(4);
const END: Duration = Duration::from_mins(2);
/// Looked for wherever it must not be.
const KEY: &str = "sk-canary-5d41402abc4b2a76";

/// Asks until it is refused, and says what it was told.
const LOOP: &str = r"
const url = process.env.ANTHROPIC_BASE_URL + '/v1/messages'
const headers = {'content-type': 'application/json', 'x-api-key': process.env.ANTHROPIC_API_KEY, 'anthropic-version': '2023-06-01'}
const body = JSON.stringify({model: 'default', max_tokens: 50, stream: true, messages: [{role: 'user', content: 'go on'}]})
for (;;) {
  const answer = await fetch(url, {method: 'POST', headers, body})
  const text = await answer.text()
  console.log(answer.status, text)
  if (answer.status !== 200) process.exit(1)
}
";

/// Host of this machine as the cluster's Pods reach it: `STAGECRAFT_MODEL_SERVER_HOST`, or the dev cluster's node.
async fn machine(world: &World) -> anyhow::Result<String> {
    if let Ok(host) = std::env::var("STAGECRAFT_MODEL_SERVER_HOST") {
        return Ok(host);
    }
    let nodes: Api<Node> = Api::all(world.client.clone());
    let nodes = nodes.list(&ListParams::default()).await?;
    let addresses = nodes
        .iter()
        .filter_map(|node| node.status.as_ref()?.addresses.as_ref());
    addresses
        .flatten()
        .find(|address| address.type_ == "InternalIP")
        .map(|address| address.address.clone())
        .context("no node has an internal address: set STAGECRAFT_MODEL_SERVER_HOST")
}

/// An object with fields of another.
fn with(mut object: Value, more: &Value) -> Value {
    if let (Some(object), Some(more)) = (object.as_object_mut(), more.as_object()) {
        object.extend(more.clone());
    }
    object
}

/// A scripted model API, and a ModelProvider `scripted` with a key that calls it.
pub async fn provider(
    world: &World,
    kind: &str,
    more: Value,
    steps: Vec<Step>,
) -> anyhow::Result<ModelServer> {
    let server = ModelServer::start_at("0.0.0.0:0", steps).await?;
    provider_at(world, server.address.port(), kind, more).await?;
    Ok(server)
}

/// A ModelProvider `scripted` with a key that calls this machine.
async fn provider_at(world: &World, port: u16, kind: &str, more: Value) -> anyhow::Result<()> {
    let host = format!("{}:{port}", machine(world).await?);
    let secret = json!({
        "metadata": {"name": "keys", "annotations": {"stagecraft.dev/allowed-hosts": format!("http://{host}")}},
        "stringData": {"apiKey": KEY},
    });
    world.create::<Secret>(secret).await?;
    let path = if kind == "openai" { "/v1" } else { "" };
    let spec = json!({
        "provider": kind, "model": "scripted-1", "baseUrl": format!("http://{host}{path}"), "secretRef": {"name": "keys"},
        "prices": {"input": 3_000_000, "output": 15_000_000},
    });
    let spec = with(spec, &more);
    world
        .create::<ModelProvider>(json!({"metadata": {"name": "scripted"}, "spec": spec}))
        .await?;
    Ok(())
}

/// A Workflow with one stage, whose agent runs a program of Node.
async fn node(world: &World, program: &str, stage: Value, workflow: Value) -> anyhow::Result<()> {
    let agent = json!({
        "metadata": {"name": "node"},
        "spec": {"requires": ["model"], "image": image("TOOLCHAIN")?, "command": ["node", "--input-type=module", "--eval", program]},
    });
    world.create::<Agent>(agent).await?;
    let only = with(json!({"name": STAGE, "agent": "node", "retries": 3}), &stage);
    let template = json!({"metadata": {"name": "models"}, "spec": {"stages": [only]}});
    world.create::<WorkflowTemplate>(template).await?;
    let spec = json!({
        "templateRef": {"name": "models"}, "project": {"requirements": ["ask a model"]}, "model": {"provider": "scripted"},
    });
    let spec = with(spec, &workflow);
    world
        .create::<Workflow>(json!({"metadata": {"name": "models"}, "spec": spec}))
        .await?;
    Ok(())
}

#[test]
fn a_looping_agent_ends_at_its_budget_and_the_key_is_nowhere_but_in_its_secret() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let turn = Turn {
            usage: Usage {
                input: 80,
                output: 20,
                cache_write: 0,
                cache_read: 0,
            },
            ..Turn::text("on and on")
        };
        let steps = vec![Step::from(turn); 50];
        let server = provider(world, "anthropic", json!({}), steps).await?;
        node(world, LOOP, json!({"budget": {"tokens": 1000}}), json!({})).await?;
        let status = world.failed("models", END).await?;
        let stage = stage(&status, STAGE)?;
        let error = stage.error.as_ref().context("a failed stage has an error")?;
        assert_eq!(
            (error.category, error.code.as_str()),
            (Category::Resource, "ModelBudgetExhausted"),
            "{error:?}"
        );
        assert!(
            error
                .message
                .contains("the budget of stage work is used up: 1000 of 1000 tokens"),
            "{error:?}"
        );
        assert_eq!(
            (stage.phase, stage.attempt),
            (StagePhase::Failed, 1),
            "it is not tried again: {stage:?}"
        );
        assert_eq!(server.asked().len(), 10, "ten calls of 100 tokens each");
        let models = status.models.context("the status says what was used")?;
        assert_eq!(
            (
                models.total.calls,
                models.total.tokens.input,
                models.total.tokens.output
            ),
            (10, 800, 200)
        );
        // 800 tokens at 3.00 a million, 200 at 15.00.
        assert_eq!((models.total.cost, status.cost.as_str()), (5400, "0.0054"));
        let used = models.by.first().context("by stage and model")?;
        assert_eq!(
            (
                used.run,
                used.stage.as_str(),
                used.provider.as_str(),
                used.model.as_str()
            ),
            (1, STAGE, "scripted", "scripted-1")
        );
        for asked in server.asked() {
            assert_eq!(asked.headers.get("x-api-key").context("no key")?, KEY);
        }
        let events = world.api::<Event>().list(&ListParams::default()).await?;
        let low = events
            .iter()
            .filter(|event| event.reason.as_deref() == Some("BudgetLow"))
            .count();
        assert_eq!(low, 1, "one Event says that the budget runs low");
        no_trace_of_the_key(world).await
    })
}

/// Asks once, and hands in a result.
const ONCE: &str = r"
import {writeFileSync} from 'node:fs'
const url = process.env.ANTHROPIC_BASE_URL + '/v1/messages'
const headers = {'content-type': 'application/json', 'x-api-key': process.env.ANTHROPIC_API_KEY, 'anthropic-version': '2023-06-01'}
const body = JSON.stringify({model: 'default', max_tokens: 50, messages: [{role: 'user', content: 'hello'}]})
const answer = await fetch(url, {method: 'POST', headers, body})
console.log(answer.status, await answer.text())
if (answer.status !== 200) process.exit(1)
writeFileSync(process.env.STAGECRAFT_RESULT, JSON.stringify({summary: 'it answered'}))
";

/// Waits until the condition Ready of the provider has a reason.
async fn ready(world: &World, reason: &str) -> anyhow::Result<ModelProvider> {
    let one = watcher::Config::default().fields("metadata.name=scripted");
    let is_met = |found: &[ModelProvider]| {
        let status = found.first().and_then(|provider| provider.status.as_ref());
        status.is_some_and(|status| status.conditions.iter().any(|ready| ready.reason == reason))
    };
    let what = format!("ModelProvider scripted is {reason}");
    let found = until(world.api::<ModelProvider>(), one, END, &what, is_met).await?;
    found.into_iter().next().context("it vanished")
}

#[test]
fn stages_wait_without_a_pod_for_a_provider_that_is_away() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        // A port that was free a moment ago.
        let address = ModelServer::start_at("0.0.0.0:0", []).await?.address;
        provider_at(world, address.port(), "anthropic", json!({})).await?;
        ready(world, "Unreachable").await?;
        node(world, ONCE, json!({}), json!({})).await?;
        let waits = world
            .until("models", END, "waits for its provider", |status| {
                status
                    .message
                    .contains("waits for ModelProvider scripted: it does not answer")
            })
            .await?;
        let status = waits.status.context("it has a status")?;
        assert_eq!(stage(&status, STAGE)?.attempt, 0, "no attempt was begun");
        assert!(
            world
                .api::<Job>()
                .list(&ListParams::default())
                .await?
                .items
                .is_empty()
        );

        let server = ModelServer::start_at(&address.to_string(), [Step::from(Turn::text("hello"))]).await?;
        let status = world.completed("models", END).await?;
        assert_eq!(stage(&status, STAGE)?.attempt, 1);
        assert_eq!(server.asked().len(), 1);
        let provider = ready(world, "Reachable").await?;
        let status = provider.status.context("it has a status")?;
        assert_eq!(status.observed_generation, provider.metadata.generation);
        Ok(())
    })
}

/// The key in Redis under which a text stands, as a script of Redis.
const SEARCH: &str = r"
local function has(value)
  if type(value) == 'table' then
    for _, part in ipairs(value) do if has(part) then return true end end
    return false
  end
  return string.find(tostring(value), ARGV[1], 1, true) ~= nil
end
local reads = {
  stream = function(key) return redis.call('XRANGE', key, '-', '+') end,
  hash = function(key) return redis.call('HGETALL', key) end,
  set = function(key) return redis.call('SMEMBERS', key) end,
  zset = function(key) return redis.call('ZRANGE', key, 0, -1) end,
  string = function(key) return redis.call('GET', key) end,
}
for _, key in ipairs(redis.call('KEYS', '*')) do
  if has(key) or has(reads[redis.call('TYPE', key).ok](key)) then return key end
end
return 'nowhere'
";

/// Everything that can be read of the release and the namespace, but for the Secret itself.
async fn no_trace_of_the_key(world: &World) -> anyhow::Result<()> {
    let kinds =
        "workflows.stagecraft.dev,modelproviders,agents.stagecraft.dev,jobs,pods,events,configmaps,approvals";
    let namespace = world.namespace.as_str();
    let release = world.release.namespace.as_str();
    let mut seen = vec![
        kubectl::output("kubectl", &["-n", namespace, "get", kinds, "-o", "yaml"]).await?,
        kubectl::output(
            "kubectl",
            &[
                "-n",
                namespace,
                "logs",
                "-l",
                "stagecraft.dev/workflow",
                "--all-containers",
                "--tail=-1",
            ],
        )
        .await?,
    ];
    for part in ["gateway", "operator"] {
        let selector = format!("app.kubernetes.io/component={part}");
        seen.push(kubectl::output("kubectl", &["-n", release, "logs", "-l", &selector, "--tail=-1"]).await?);
    }
    let found = world.release.redis(&["EVAL", SEARCH, "0", KEY]).await?;
    assert!(found.contains("nowhere"), "the key is in Redis: {found}");
    let found = world.release.redis(&["EVAL", SEARCH, "0", STAGE]).await?;
    assert!(
        !found.contains("nowhere"),
        "the search finds nothing at all: {found}"
    );
    assert!(
        seen.iter().all(|text| text.len() > 10),
        "something could not be read"
    );
    let encoded = "c2stY2FuYXJ5";
    for text in &seen {
        assert!(
            !text.contains(KEY) && !text.contains(encoded),
            "the key is in {}",
            text.chars().take(200).collect::<String>()
        );
    }
    Ok(())
}
