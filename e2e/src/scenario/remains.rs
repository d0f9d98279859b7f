//! What deleted Workflows have left behind: in the cluster, in Redis, in the gateway's store. One clock runs for all of it.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::bail;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::ResourceExt as _;
use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use reqwest::Method;
use serde::de::DeserializeOwned;
use stagecraft_api::protocol::StoredWorkflows;
use stagecraft_api::{Approval, Workflow, label};
use tokio::time::Instant;

use super::World;
use super::gateway::{Gateway, operator_token};

/// Longest time from a deletion until nothing is left.
pub const GONE: Duration = Duration::from_mins(1);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// Every key of Redis that speaks of one of the arguments, by its name or by what it holds; but for the registration of an agent, which ends
/// by itself with its lease.
const KEYS_THAT_NAME: &str = r"
local function holds(value, uid)
  if type(value) ~= 'table' then return string.find(tostring(value), uid, 1, true) end
  for _, part in ipairs(value) do if holds(part, uid) then return true end end
  return false
end
local read = {
  string = function(key) return redis.call('GET', key) end,
  hash = function(key) return redis.call('HGETALL', key) end,
  set = function(key) return redis.call('SMEMBERS', key) end,
  zset = function(key) return redis.call('ZRANGE', key, 0, -1) end,
  list = function(key) return redis.call('LRANGE', key, 0, -1) end,
  stream = function(key) return redis.call('XRANGE', key, '-', '+') end,
}
local found = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local leased = string.find(key, 'stagecraft:agents:', 1, true) == 1 and redis.call('PTTL', key) > 0
  local value = read[redis.call('TYPE', key).ok](key)
  for _, uid in ipairs(ARGV) do
    if not leased and (holds(key, uid) or holds(value, uid)) then table.insert(found, 'key ' .. key .. ' names ' .. uid) end
  end
end
return found";

/// Workflows that were deleted at one moment.
pub struct Deletion {
    uids: Vec<String>,
    deadline: Instant,
}

impl Deletion {
    /// The clock runs from here on: to be called right before the deletion.
    pub fn begins(uids: Vec<String>) -> Self {
        let deadline = Instant::now() + GONE;
        Self { uids, deadline }
    }

    /// Nothing of them is left anywhere once [`GONE`] has passed since the deletion.
    pub async fn leaves_nothing(&self, world: &World) -> anyhow::Result<()> {
        self.waited(async || {
            let mut left = objects(world, &self.uids).await?;
            if left.is_empty() {
                left.extend(keys(world, &self.uids).await?);
            }
            if left.is_empty() {
                left.extend(entries(world, &self.uids).await?);
            }
            Ok(left)
        })
        .await
    }

    /// Nothing of them is left in the cluster once [`GONE`] has passed since the deletion, whatever others still hold.
    pub async fn leaves_no_object(&self, world: &World) -> anyhow::Result<()> {
        self.waited(async || objects(world, &self.uids).await).await
    }

    async fn waited(&self, look: impl AsyncFn() -> anyhow::Result<Vec<String>>) -> anyhow::Result<()> {
        let mut left = vec!["nobody could look".to_owned()];
        let looking = async {
            loop {
                match look().await {
                    Ok(found) if found.is_empty() => return,
                    Ok(found) => left = found,
                    Err(error) => left = vec![format!("nobody could look: {error:#}")],
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        if tokio::time::timeout_at(self.deadline, looking).await.is_err() {
            bail!(
                "{} s after the deletion there is still: {}",
                GONE.as_secs(),
                left.join(", ")
            );
        }
        Ok(())
    }
}

/// Whether the store holds anything of a Workflow.
pub async fn is_stored(world: &World, uid: &str) -> anyhow::Result<bool> {
    Ok(!entries(world, &[uid.to_owned()]).await?.is_empty())
}

/// Whether anything in Redis speaks of a Workflow.
pub async fn is_queued(world: &World, uid: &str) -> anyhow::Result<bool> {
    Ok(!keys(world, &[uid.to_owned()]).await?.is_empty())
}

async fn objects(world: &World, uids: &[String]) -> anyhow::Result<Vec<String>> {
    let mut left = Vec::new();
    left.extend(owned::<Job>(world, uids).await?);
    left.extend(owned::<Pod>(world, uids).await?);
    left.extend(owned::<ConfigMap>(world, uids).await?);
    left.extend(owned::<Approval>(world, uids).await?);
    left.extend(owned::<RoleBinding>(world, uids).await?);
    left.extend(owned::<ServiceAccount>(world, uids).await?);
    left.extend(owned::<Secret>(world, uids).await?);
    left.extend(owned::<PersistentVolumeClaim>(world, uids).await?);
    left.extend(owned::<Workflow>(world, uids).await?);
    Ok(left)
}

/// Objects of one kind that are one of these Workflows, carry its label, or name it as their owner.
async fn owned<K>(world: &World, uids: &[String]) -> anyhow::Result<Vec<String>>
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let is_one = |uid: &str| uids.iter().any(|known| known == uid);
    let found = world.api::<K>().list_metadata(&ListParams::default()).await?;
    let ours = found.items.iter().filter(|object| {
        object.uid().is_some_and(|uid| is_one(&uid))
            || object
                .labels()
                .get(label::WORKFLOW_UID)
                .is_some_and(|uid| is_one(uid))
            || object.owner_references().iter().any(|owner| is_one(&owner.uid))
    });
    Ok(ours
        .map(|object| format!("{} {}", K::kind(&()), object.name_any()))
        .collect())
}

async fn keys(world: &World, uids: &[String]) -> anyhow::Result<Vec<String>> {
    let mut arguments = vec!["EVAL", KEYS_THAT_NAME, "0"];
    arguments.extend(uids.iter().map(String::as_str));
    let answer = world.release.redis(&arguments).await?;
    anyhow::ensure!(!answer.contains("(error)"), "Redis answered {answer}");
    let lines = answer.lines().filter(|line| line.contains("names"));
    Ok(lines.map(|line| format!("in Redis {line}")).collect())
}

async fn entries(world: &World, uids: &[String]) -> anyhow::Result<Vec<String>> {
    let gateway = Gateway::reach(&world.client, &world.release).await?;
    let token = operator_token(&world.client, &world.release).await?;
    let answer = gateway
        .ask(Method::GET, "/v1/operator/workflows", Some(&token), None)
        .await?;
    let stored: StoredWorkflows = answer.error_for_status()?.json().await?;
    let ours = stored.uids.iter().filter(|uid| uids.contains(uid));
    Ok(ours.map(|uid| format!("in the store {uid}")).collect())
}
