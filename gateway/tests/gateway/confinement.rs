//! What a provider would do for an agent with things outside of its request.

use axum::body::Body;
use serde_json::{Value, json};
use stagecraft_model_server::{ModelServer, Step};

use crate::models::{HELLO, MESSAGES, ask, claim, text};
use crate::world::{Reply, World};

const CHAT: &str = "/v1/models/openai/v1/chat/completions";
const RESPONSES: &str = "/v1/models/openai/v1/responses";

async fn asked(provider: &str, path: &str, change: Value, body: &Value) -> (Reply, usize) {
    let server = ModelServer::start([Step::json(200, &[], HELLO)]).await.unwrap();
    let world = World::new();
    let pod = claim(&world, &server, provider, change, &json!({})).await;
    let reply = ask(&world, &pod, path, body).await;
    (reply, server.asked().len())
}

fn image(source: &Value) -> Value {
    json!({"messages": [{"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "image", "source": source}]}]}]})
}

/// Such a request is refused with field, value and remedy, and passes where the provider allows it.
async fn is_refused(provider: &str, path: &str, body: Value, field: &str, remedy: &str) {
    let (refused, calls) = asked(provider, path, json!({}), &body).await;
    let told = text(&refused);
    assert_eq!((refused.status.as_u16(), calls), (403, 0), "{body}: {told}");
    assert_eq!(refused.headers["x-stagecraft-problem"], "server_tool_not_allowed");
    assert_eq!(refused.headers["x-should-retry"], "false");
    let told = told.replace("\\\"", "\"");
    assert!(told.contains(field), "{body}: {told}");
    let advice = format!("add \"{remedy}\" to spec.serverTools of ModelProvider models");
    assert!(told.contains(&advice), "{body}: {told}");
    let allowed = json!({"serverTools": [remedy]});
    let (answered, calls) = asked(provider, path, allowed, &body).await;
    let told = text(&answered);
    assert_eq!((answered.status.as_u16(), calls), (200, 1), "{body}: {told}");
}

#[tokio::test]
async fn what_leads_out_of_messages_is_refused_with_the_remedy() {
    let url = json!({"type": "url", "url": "https://evil.example/?secret"});
    for (body, field, remedy) in [
        (
            json!({"mcp_servers": [{"url": "https://evil.example"}]}),
            "mcp_servers",
            "mcp_servers",
        ),
        (json!({"container": "c"}), "container", "container"),
        (
            json!({"tools": [{"name": "a"}, {"type": "web_fetch_20250910", "name": "web_fetch"}]}),
            "tools[1].type \"web_fetch_20250910\"",
            "web_fetch",
        ),
        (
            json!({"tools": [{"type": "code_execution_20250825"}]}),
            "tools[0].type",
            "code_execution",
        ),
        (
            image(&url),
            "messages[0].content[0].content[0].source.type \"url\"",
            "url",
        ),
        (image(&json!({"type": "file", "file_id": "f"})), "source", "file"),
    ] {
        is_refused("anthropic", MESSAGES, body, field, remedy).await;
    }
}

#[tokio::test]
async fn what_leads_out_of_chat_completions_is_refused_with_the_remedy() {
    let part = |part: Value| json!({"messages": [{"role": "user", "content": [part]}]});
    for (body, field, remedy) in [
        (
            json!({"tools": [{"type": "web_search"}]}),
            "tools[0].type \"web_search\"",
            "web_search",
        ),
        (
            json!({"web_search_options": {}}),
            "web_search_options",
            "web_search_options",
        ),
        (json!({"store": true}), "store \"true\"", "store"),
        (
            part(json!({"type": "image_url", "image_url": {"url": "https://evil.example"}})),
            "messages[0].content[0].image_url \"https://evil.example\"",
            "url",
        ),
        (
            part(json!({"type": "file", "file": {"file_id": "f"}})),
            "file.file_id",
            "file",
        ),
    ] {
        is_refused("openai", CHAT, body, field, remedy).await;
    }
}

#[tokio::test]
async fn what_leads_out_of_responses_is_refused_with_the_remedy() {
    let item = |part: Value| json!({"input": [{"role": "user", "content": [part]}]});
    for (body, field, remedy) in [
        (
            json!({"tools": [{"type": "mcp", "server_url": "https://evil.example"}]}),
            "tools[0].type \"mcp\"",
            "mcp",
        ),
        (json!({"background": true}), "background", "background"),
        (json!({"store": true}), "store", "store"),
        (
            json!({"previous_response_id": "r"}),
            "previous_response_id",
            "previous_response_id",
        ),
        (json!({"conversation": "c"}), "conversation", "conversation"),
        (json!({"prompt": {"id": "p"}}), "prompt", "prompt"),
        (
            item(json!({"type": "input_image", "image_url": "https://evil.example"})),
            "image_url",
            "url",
        ),
        (
            item(json!({"type": "input_file", "file_url": "https://evil.example"})),
            "file_url",
            "url",
        ),
        (
            json!({"input": [{"type": "item_reference", "id": "i"}]}),
            "input[0].type",
            "item_reference",
        ),
    ] {
        is_refused("openai", RESPONSES, body, field, remedy).await;
    }
}

#[tokio::test]
async fn what_stays_between_agent_and_model_passes() {
    let data = json!({"type": "base64", "media_type": "image/png", "data": "AA=="});
    let arguments = json!({"image_url": "https://x.example", "source": {"type": "url"}, "file_id": "f"});
    for (provider, path, body) in [
        (
            "anthropic",
            MESSAGES,
            json!({"tools": [{"name": "a", "input_schema": {}}, {"type": "custom", "name": "b"}, {"type": "bash_20250124", "name": "bash"}]}),
        ),
        ("anthropic", MESSAGES, image(&data)),
        (
            "anthropic",
            MESSAGES,
            json!({"messages": [{"role": "assistant", "content": [{"input": arguments, "type": "tool_use", "id": "1", "name": "a"}]}]}),
        ),
        (
            "anthropic",
            MESSAGES,
            json!({"messages": [{"role": "user", "content": "see https://x.example"}], "mcp_servers": []}),
        ),
        (
            "openai",
            CHAT,
            json!({"tools": [{"type": "function", "function": {"name": "a"}}], "store": false}),
        ),
        (
            "openai",
            CHAT,
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]}),
        ),
        (
            "openai",
            RESPONSES,
            json!({"input": "hi", "background": false, "previous_response_id": null}),
        ),
    ] {
        let (answered, calls) = asked(provider, path, json!({}), &body).await;
        assert_eq!(
            (answered.status.as_u16(), calls),
            (200, 1),
            "{body}: {}",
            text(&answered)
        );
    }
}

#[tokio::test]
async fn what_is_given_twice_is_not_passed_on() {
    for body in [
        r#"{"model":"small","store":false,"store":true}"#,
        r#"{"model":"small","tools":[{"type":"function","type":"web_search"}]}"#,
        r#"{"model":"small","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:,","url":"https://evil.example"}}]}]}"#,
    ] {
        let server = ModelServer::start([Step::json(200, &[], HELLO)]).await.unwrap();
        let world = World::new();
        let pod = claim(&world, &server, "openai", json!({}), &json!({})).await;
        let authorization = format!("Bearer {pod}");
        let headers = [("authorization", authorization.as_str())];
        let reply = world.request("POST", CHAT, &headers, Body::from(body)).await;
        assert_eq!(reply.status.as_u16(), 400, "{body}: {}", text(&reply));
        assert!(
            text(&reply).contains("twice") || text(&reply).contains("duplicate"),
            "{}",
            text(&reply)
        );
    }
}

#[tokio::test]
async fn the_provider_keeps_no_response_that_nobody_asked_it_to_keep() {
    for (tools, expected) in [(json!([]), json!(false)), (json!(["store"]), Value::Null)] {
        let server = ModelServer::start([Step::json(200, &[], HELLO)]).await.unwrap();
        let world = World::new();
        let pod = claim(
            &world,
            &server,
            "openai",
            json!({"serverTools": tools}),
            &json!({}),
        )
        .await;
        ask(&world, &pod, RESPONSES, &json!({"input": "hi"})).await;
        let sent: Value = serde_json::from_str(&server.asked()[0].body).unwrap();
        assert_eq!(sent["store"], expected);
    }
}

#[tokio::test]
async fn only_features_that_are_known_to_stay_inside_are_asked_for() {
    let server = ModelServer::start((0..3).map(|_| Step::json(200, &[], HELLO)))
        .await
        .unwrap();
    let world = World::new();
    let change = json!({"serverTools": ["files-api"]});
    let pod = claim(&world, &server, "anthropic", change, &json!({})).await;
    let authorization = format!("Bearer {pod}");
    for (beta, status) in [
        ("interleaved-thinking-2025-05-14, claude-code-20250219", 200),
        ("files-api-2025-04-14", 200),
        ("interleaved-thinking-2025-05-14,mcp-client-2025-04-04", 403),
    ] {
        let headers = [
            ("authorization", authorization.as_str()),
            ("anthropic-beta", beta),
        ];
        let body = Body::from(json!({"model": "small", "max_tokens": 5}).to_string());
        let reply = world.request("POST", MESSAGES, &headers, body).await;
        assert_eq!(reply.status.as_u16(), status, "{beta}: {}", text(&reply));
        if status == 403 {
            let told = text(&reply).replace("\\\"", "\"");
            assert!(
                told.contains("anthropic-beta \"mcp-client-2025-04-04\""),
                "{told}"
            );
            assert!(told.contains("add \"mcp-client\" to spec.serverTools"), "{told}");
        }
    }
}
