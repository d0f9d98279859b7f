//! Where keys of providers go.

use serde_json::json;
use stagecraft_model_server::ModelServer;

use crate::models::{MESSAGES, ask, claimed, text};

#[tokio::test]
async fn a_key_that_may_not_go_there_is_not_sent() {
    let server = ModelServer::start([]).await.unwrap();
    let (world, pod) = claimed(&server, "anthropic", json!({})).await;
    world.cluster.put(
        "/api/v1/namespaces/team/secrets/keys",
        json!({"apiVersion": "v1", "kind": "Secret", "data": {"apiKey": "eA=="}, "metadata": {"name": "keys"}}),
    );
    let reply = ask(&world, &pod, MESSAGES, &json!({"model": "small"})).await;
    assert_eq!(reply.status.as_u16(), 403);
    assert!(text(&reply).contains("must not go to"), "{}", text(&reply));
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn a_key_goes_in_clear_only_where_the_secret_says_so() {
    let server = ModelServer::start([]).await.unwrap();
    let (world, pod) = claimed(&server, "anthropic", json!({})).await;
    let annotations = json!({"stagecraft.dev/allowed-hosts": server.host()});
    world.cluster.put(
        "/api/v1/namespaces/team/secrets/keys",
        json!({"apiVersion": "v1", "kind": "Secret", "data": {"apiKey": "c2VjcmV0a2V5"},
            "metadata": {"name": "keys", "annotations": annotations}}),
    );
    let reply = ask(&world, &pod, MESSAGES, &json!({"model": "small"})).await;
    let told = text(&reply);
    assert_eq!(reply.status.as_u16(), 403, "{told}");
    let remedy = format!("stagecraft.dev/allowed-hosts=http://{}", server.host());
    assert!(told.contains(&remedy), "{told}");
    assert!(server.asked().is_empty());
}
