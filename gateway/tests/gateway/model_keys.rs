//! Where the key of a provider may go: to the provider's own host, and to hosts that the Secret's owner has listed, letter by letter.

use std::cell::Cell;

use k8s_openapi::api::core::v1::Secret;
use proptest::prelude::*;
use reqwest::Url;
use serde_json::json;
use stagecraft_api::label::ALLOWED_HOSTS;
use stagecraft_api::provider::ModelProviderSpec;
use stagecraft_gateway::model::provider::Provider;
use stagecraft_inputs::property::holds;
use stagecraft_inputs::values::text;

const PUBLIC: [(&str, &str); 2] = [("anthropic", "api.anthropic.com"), ("openai", "api.openai.com")];

/// Whether the key of a Secret with this list goes to this address, and where that is.
fn goes(kind: &str, base: &str, listed: &str) -> Option<Url> {
    let spec: ModelProviderSpec = serde_json::from_value(json!({
        "provider": kind, "model": "m", "baseUrl": base, "secretRef": {"name": "keys"},
    }))
    .unwrap();
    let secret: Secret = serde_json::from_value(json!({
        "metadata": {"name": "keys", "annotations": {ALLOWED_HOSTS: listed}},
        "data": {"apiKey": "c2VjcmV0"},
    }))
    .unwrap();
    let provider = Provider::new("p", &spec, Some(&secret)).ok()?;
    provider.authorization().map(|_| provider.base)
}

/// Where a connection goes to, by another parser than the gateway's.
fn target(base: &Url) -> (String, u16) {
    let address: axum::http::Uri = base.as_str().parse().unwrap();
    let port = if address.scheme_str() == Some("https") {
        443
    } else {
        80
    };
    (
        address.host().unwrap().to_owned(),
        address.port_u16().unwrap_or(port),
    )
}

#[test]
fn a_key_goes_to_a_listed_host_alone() {
    let listed = "models.example.com, proxy.example.com:8443 127.0.0.1:9000 http://127.0.0.1:9001";
    for base in [
        "https://models.example.com",
        "https://models.example.com/v1",
        "https://models.example.com:443/",
        "https://MODELS.example.com",
        "https://proxy.example.com:8443",
        "https://127.0.0.1:9000",
        "http://127.0.0.1:9001",
    ] {
        assert!(goes("openai", base, listed).is_some(), "{base}");
    }
    for base in [
        "http://models.example.com",
        "http://127.0.0.1:9000",
        "https://127.0.0.1:9001",
        "https://user:password@models.example.com",
        "https://models.example.com@evil.example",
        "https://models.example.com:443@evil.example",
        "https://evil.example#@models.example.com",
        "https://evil.example/models.example.com",
        "https://evil.example?models.example.com",
        "https://evil.example\\@models.example.com",
        "https://models.example.com.evil.example",
        "https://models.example.com.",
        "https://models.example.com:8443",
        "https://proxy.example.com",
        "https://proxy.example.com:443",
        "https://proxy.example.com:84430",
        "https://evil-models.example.com",
        "https://evil.models.example.com",
        "https://xmodels.example.com",
        "https://models.example.co",
        "https://example.com",
        "https://models\u{2024}evil.example",
        "https://m\u{43e}dels.example.com",
        "https://models.example.com,evil.example",
        "https://127.0.0.1",
        "https://0x7f.1:9001",
        "https://[::1]:9000",
        "https://[::ffff:127.0.0.1]:9000",
        "https://",
        "https://:8443",
        "https:///",
        "https://*",
        "https:// ",
    ] {
        assert_eq!(goes("openai", base, listed), None, "{base}");
    }
}

#[test]
fn a_list_of_patterns_or_of_nothing_allows_no_host() {
    for listed in [
        "",
        " ",
        ",",
        ", ,",
        "*",
        "*.example.com",
        "*:443",
        ".example.com",
        "example.com",
        "https://models.example.com",
        "models.example.com/",
        "models.example.com.",
        "MODELS.EXAMPLE.COM",
        "models.example.com:443",
        "models.example.com:*",
        "models.example.com;",
        "models.example.com\n",
        "\tmodels.example.com",
        "models.example.com\0",
        "@models.example.com",
        "models.example.com@",
        "m\u{43e}dels.example.com",
        "models.example.com\u{200b}",
        "null",
        "[\"models.example.com\"]",
    ] {
        assert_eq!(
            goes("openai", "https://models.example.com", listed),
            None,
            "{listed:?}"
        );
    }
    for (kind, host) in PUBLIC {
        assert!(goes(kind, &format!("https://{host}"), "").is_some(), "{host}");
        for base in [
            format!("http://{host}"),
            format!("https://{host}:8443"),
            format!("https://{host}."),
            format!("https://{host}.evil.example"),
            format!("https://{host}@evil.example"),
            format!("https://evil-{host}"),
            format!("http://{host}:443"),
        ] {
            assert_eq!(goes(kind, &base, ""), None, "{base}");
        }
    }
    assert_eq!(
        goes("openai", "https://api.anthropic.com", ""),
        None,
        "that is another provider's"
    );
}

/// Parts of addresses, put together in any order.
fn address() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        8 => prop::sample::select(
            &[
                "models.example.com", "api.openai.com", "evil.example", "example", ".", ":", ":443", ":80", ":8443", "@", "/", "\\", "?", "#",
                "%2e", "%40", "*", "MODELS", "\u{3002}", "\u{200b}", "xn--", "[::1]", "127.1", "0", "user", "\t", "\n", " ", "-", "_",
            ][..]
        )
        .prop_map(str::to_owned),
        1 => text(),
    ];
    let scheme = prop::sample::select(
        &[
            "https://",
            "http://",
            "https:",
            "https:/",
            "https:///",
            "HTTPS://",
            "file://",
            "x://",
            "",
        ][..],
    );
    (scheme, prop::collection::vec(part, 1..6))
        .prop_map(|(scheme, parts)| format!("{scheme}{}", parts.concat()))
}

#[test]
fn whatever_the_address_the_key_goes_where_the_list_or_the_provider_says() {
    let list = prop::collection::vec(
        prop_oneof![
            prop::sample::select(
                &[
                    "models.example.com",
                    "evil.example:8443",
                    "http://models.example.com",
                    "*",
                    "example",
                    "",
                    "127.0.0.1",
                    "[::1]:8443"
                ][..]
            )
            .prop_map(str::to_owned),
            text(),
        ],
        0..4,
    );
    let sent = Cell::new(0);
    let values = (address(), list, prop::sample::select(&PUBLIC[..]));
    holds(20_000, &values, |(base, list, (kind, public))| {
        let listed = list.join(",");
        let Some(base) = goes(kind, &base, &listed) else {
            return;
        };
        sent.set(sent.get() + 1);
        let (host, port) = target(&base);
        let usual = if base.scheme() == "https" { 443 } else { 80 };
        let in_clear = if base.scheme() == "https" {
            String::new()
        } else {
            format!("{}://", base.scheme())
        };
        let is_listed = listed.split([',', ' ']).any(|entry| {
            let Some(entry) = entry.strip_prefix(&in_clear) else {
                return false;
            };
            entry == format!("{host}:{port}") && port != usual || entry == host && port == usual
        });
        let is_public = (base.scheme(), host.as_str(), port) == ("https", public, 443);
        assert!(is_listed || is_public, "{base} {listed:?}");
    });
    assert!(sent.get() > 100, "{}", sent.get());
}
