//! What a provider would do for an agent with things outside of its request: fetch what an address names, run code, read what others left with
//! it. A hijacked agent, whose own network is closed, would have a way out by that. So it is denied unless the ModelProvider allows it.

use axum::http::HeaderMap;
use serde::Deserialize;
use stagecraft_api::error::truncate;

use super::content::{Look, Reach};
use super::request::{Fields, Operation};

/// Types of tools that the agent itself runs.
const OWN_TOOLS: [&str; 9] = [
    "apply_patch",
    "bash",
    "computer",
    "computer_use_preview",
    "custom",
    "function",
    "local_shell",
    "memory",
    "text_editor",
];

/// Features by header that change nothing but how model and agent talk.
const OWN_BETAS: [&str; 16] = [
    "claude-code",
    "computer-use",
    "context-1m",
    "context-management",
    "effort",
    "extended-cache-ttl",
    "fine-grained-tool-streaming",
    "interleaved-thinking",
    "model-context-window-exceeded",
    "output-128k",
    "pdfs",
    "prompt-caching",
    "prompt-caching-scope",
    "responses",
    "structured-outputs",
    "token-efficient-tools",
];

/// Headers that ask for features.
const BETA_HEADERS: [&str; 2] = ["anthropic-beta", "openai-beta"];

/// Longest value that is told, in bytes.
const TOLD_BYTES: usize = 120;

/// Why a request is not passed on as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Confined {
    /// Its provider would reach beyond it.
    #[error("{field} {value:?} has the provider reach beyond the request", field = .0.field, value = .0.value)]
    Reaches(Reach),
    #[error("the body is not a request for a model: {0}")]
    Unreadable(String),
}

/// Fields that reach beyond the request, whatever their value.
fn fields_of(operation: Operation) -> &'static [&'static str] {
    match operation {
        Operation::Messages | Operation::CountTokens => &["mcp_servers", "container"],
        Operation::ChatCompletions => &["web_search_options", "store"],
        Operation::Responses => &[
            "background",
            "conversation",
            "previous_response_id",
            "prompt",
            "store",
        ],
        Operation::Models => &[],
    }
}

/// Fields with what is said.
fn contents_of(operation: Operation) -> &'static [&'static str] {
    match operation {
        Operation::Messages | Operation::CountTokens => &["system", "messages"],
        Operation::ChatCompletions => &["messages"],
        Operation::Responses => &["input"],
        Operation::Models => &[],
    }
}

/// Looks for what leads out of a request and is not among what is allowed.
pub fn check(operation: Operation, fields: &Fields, allowed: &[String]) -> Result<(), Confined> {
    for name in fields_of(operation) {
        if let Some(value) = fields.get(name)
            && !matches!(value, "null" | "false" | "[]" | "\"\"")
        {
            let told = value.trim_matches('"');
            deny(allowed, Reach::new(name, told, name))?;
        }
    }
    if let Some(tools) = fields.get("tools") {
        check_tools(tools, allowed)?;
    }
    for name in contents_of(operation) {
        if let Some(value) = fields.get(name) {
            let look = Look {
                allowed,
                has_references: operation == Operation::Responses,
            };
            let found = look
                .into(value)
                .map_err(|error| Confined::Unreadable(error.to_string()))?;
            if let Some(reach) = found {
                return Err(Confined::Reaches(reach.below(name)));
            }
        }
    }
    Ok(())
}

/// The same for features that are asked for by a header.
pub fn check_headers(headers: &HeaderMap, allowed: &[String]) -> Result<(), Confined> {
    for name in BETA_HEADERS {
        let values = headers.get_all(name).iter();
        let texts = values.map(|value| value.to_str().unwrap_or("unreadable"));
        for feature in texts.flat_map(|text| text.split(',')).map(str::trim) {
            let base = undated(feature.split('=').next().unwrap_or_default());
            if !feature.is_empty() && !OWN_BETAS.contains(&base) {
                deny(allowed, Reach::new(name, feature, base))?;
            }
        }
    }
    Ok(())
}

fn check_tools(tools: &str, allowed: &[String]) -> Result<(), Confined> {
    #[derive(Deserialize)]
    struct Tool {
        #[serde(rename = "type")]
        kind: Option<String>,
    }
    let tools: Option<Vec<Tool>> =
        serde_json::from_str(tools).map_err(|error| Confined::Unreadable(error.to_string()))?;
    for (index, Tool { kind }) in tools.into_iter().flatten().enumerate() {
        let Some(kind) = kind else { continue };
        let base = undated(&kind);
        if !OWN_TOOLS.contains(&base) {
            deny(allowed, Reach::new(&format!("tools[{index}].type"), &kind, base))?;
        }
    }
    Ok(())
}

fn deny(allowed: &[String], reach: Reach) -> Result<(), Confined> {
    if allows(allowed, &reach.name) || allows(allowed, &reach.value) {
        return Ok(());
    }
    Err(Confined::Reaches(reach))
}

/// Whether the list of a ModelProvider has this name.
pub fn allows(allowed: &[String], name: &str) -> bool {
    allowed.iter().any(|allowed| allowed == name)
}

/// A name without the date of its version.
fn undated(name: &str) -> &str {
    let mut rest = name;
    loop {
        let shorter = rest.trim_end_matches(|character: char| character.is_ascii_digit());
        match shorter.strip_suffix(['_', '-']) {
            Some(before) if shorter.len() < rest.len() => rest = before,
            _ => return rest,
        }
    }
}

impl Reach {
    fn new(field: &str, value: &str, name: &str) -> Self {
        Self {
            field: field.to_owned(),
            value: truncate(value, TOLD_BYTES),
            name: truncate(name, TOLD_BYTES),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::undated;

    #[test]
    fn a_name_is_known_without_its_date() {
        for (name, expected) in [
            ("web_fetch_20250910", "web_fetch"),
            ("web_search_preview_2025_03_11", "web_search_preview"),
            ("mcp-client-2025-04-04", "mcp-client"),
            ("context-1m-2025-08-07", "context-1m"),
            ("output-128k-2025-02-19", "output-128k"),
            ("function", "function"),
            ("2025", "2025"),
            ("", ""),
        ] {
            assert_eq!(undated(name), expected);
        }
    }
}
