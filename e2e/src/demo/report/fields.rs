//! Outputs of a stage in one line: pure. Any agent may put out anything, so that nothing is taken for granted but that it is
//! JSON; fields that the built-in agents are known for come first.

use serde_json::{Map, Value};

/// What tells most, in this order. Other fields follow by name.
const FIRST: [&str; 26] = [
    // deployment
    "url",
    "endpoint",
    "replicas",
    "status",
    "health",
    "image",
    "digest",
    // integration
    "branch",
    "commit",
    "commits",
    "strategy",
    "conflicts",
    // all that check
    "findings",
    "totals",
    "checks",
    // scaffold
    "files",
    "directories",
    "lines",
    "operations",
    "features",
    "mainFiles",
    "decisions",
    "requirements",
    "provider",
    "revision",
    "service",
];
/// They say what others say better: the number of findings stands with them.
const LEFT_OUT: [&str; 1] = ["findingsTotal"];
/// What the end-to-end tests came to; the same again in the check of that name.
const TOTALS: &str = "totals";
/// Most items of a list.
const ITEMS: usize = 4;
/// Longest single text, in characters: a sentence must not push out everything else.
const TEXT: usize = 80;
/// Digits that identify a commit or a digest for a person.
const DIGITS: usize = 12;
/// A SHA-1 is the shortest identifier that is worth cutting.
const IDENTIFIER: usize = 40;

/// The fields that tell most, as many as there is room for, in characters.
pub fn line(outputs: &Map<String, Value>, room: usize) -> String {
    let known = FIRST.iter().filter_map(|name| outputs.get_key_value(*name));
    let others = outputs
        .iter()
        .filter(|(name, _)| !FIRST.contains(&name.as_str()) && !LEFT_OUT.contains(&name.as_str()));
    let mut parts = known
        .chain(others)
        .flat_map(|(name, value)| field(name, value, outputs));
    let mut line = parts.next().unwrap_or_default();
    for part in parts {
        // Room is kept for the sign that something is missing.
        if line.chars().count() + part.chars().count() + 5 > room {
            line.push_str(", …");
            break;
        }
        line.push_str(", ");
        line.push_str(&part);
    }
    cut(&line, room)
}

/// The text in one line without control characters, with its end cut off where there is no room for it.
pub fn cut(text: &str, room: usize) -> String {
    let printable: String = text
        .chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect();
    let text = printable.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() <= room {
        return text;
    }
    let mut text: String = text.chars().take(room.saturating_sub(1)).collect();
    text.push('…');
    text
}

/// A field with its name, in parts that can be told without each other; none where there is nothing to tell.
fn field(name: &str, value: &Value, outputs: &Map<String, Value>) -> Vec<String> {
    let name = cut(name, TEXT);
    match (name.as_str(), value) {
        (_, Value::Null) => Vec::new(),
        ("findings", Value::Array(found)) => vec![findings(found, outputs)],
        ("checks", Value::Object(checks)) => self::checks(checks, outputs.contains_key(TOTALS)),
        (TOTALS, Value::Object(totals)) => Some(numbers(totals))
            .filter(|numbers| !numbers.is_empty())
            .into_iter()
            .collect(),
        (_, Value::Array(items)) => vec![format!("{name} {}", list(items))],
        (_, Value::Object(fields)) if fields.is_empty() => Vec::new(),
        (_, Value::Object(fields)) => {
            let known = fields.iter().filter(|(_, value)| !value.is_null()).take(ITEMS);
            let inner: Vec<String> = known
                .map(|(name, value)| format!("{} {}", cut(name, TEXT), scalar(value)))
                .collect();
            vec![format!("{name} {{{}}}", inner.join(", "))]
        }
        (_, value) => vec![format!("{name} {}", scalar(value))],
    }
}

/// Each check, those that did not pass first: they are what one looks for.
fn checks(checks: &Map<String, Value>, twice: bool) -> Vec<String> {
    let passed = |check: &Value| check.get("state").unwrap_or(check) == "passed";
    let mut checks: Vec<_> = checks.iter().collect();
    checks.sort_by_key(|(_, check)| passed(check));
    checks
        .into_iter()
        .map(|(name, check)| self::check(name, check, twice))
        .collect()
}

/// How many there are, and the first of them, which is the worst.
fn findings(found: &[Value], outputs: &Map<String, Value>) -> String {
    let kept = u64::try_from(found.len()).unwrap_or(u64::MAX);
    let total = outputs.get("findingsTotal").and_then(Value::as_u64);
    let Some(first) = found.first() else {
        return match total {
            Some(total) if total > 0 => format!("findings {total}"),
            _ => "no findings".to_owned(),
        };
    };
    let text = |name: &str| first.get(name).and_then(Value::as_str);
    let line = first.get("line").and_then(Value::as_u64);
    let place = text("file").map(|file| match line {
        Some(line) => format!("{file}:{line}"),
        None => file.to_owned(),
    });
    let words: Vec<&str> = [text("check"), place.as_deref(), text("rule"), text("message")]
        .into_iter()
        .flatten()
        .collect();
    let total = total.unwrap_or(kept).max(kept);
    format!("findings {total} ({})", cut(&words.join(" "), TEXT))
}

/// A check in words: how it ended, and what it counted unless that is told elsewhere.
fn check(name: &str, check: &Value, twice: bool) -> String {
    let state = match check.get("state").unwrap_or(check) {
        Value::String(state) if state == "notRun" => "not run".to_owned(),
        state => scalar(state),
    };
    let counted = check.as_object().map(numbers).unwrap_or_default();
    let told = name == "e2e" && twice;
    let name = cut(name, TEXT);
    if counted.is_empty() || told {
        format!("{name} {state}")
    } else {
        format!("{name} {state} ({counted})")
    }
}

/// The numbers that say something: naught is what one expects of errors and failures, and how long it took stands in the table.
fn numbers(fields: &Map<String, Value>) -> String {
    let told = fields
        .iter()
        .filter(|(name, value)| *name != "seconds" && value.as_f64().is_some_and(|number| number != 0.0));
    let told: Vec<String> = told
        .map(|(name, value)| format!("{} {}", scalar(value), cut(name, TEXT)))
        .collect();
    told.join(" ")
}

/// A few items; of lists of objects only how many there are.
fn list(items: &[Value]) -> String {
    if items.iter().any(|item| item.is_object() || item.is_array()) {
        return items.len().to_string();
    }
    let mut shown: Vec<String> = items.iter().take(ITEMS).map(scalar).collect();
    let more = items.len().saturating_sub(ITEMS);
    if more > 0 {
        shown.push(format!("+{more}"));
    }
    format!("[{}]", shown.join(", "))
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => cut(&shortened(text), TEXT),
        other => cut(&other.to_string(), TEXT),
    }
}

/// The text with long hexadecimal identifiers cut to what a person compares.
fn shortened(text: &str) -> String {
    let mut short = String::with_capacity(text.len());
    let mut digits = String::new();
    // The end counts as one more character that is no digit.
    for character in text.chars().map(Some).chain([None]) {
        if let Some(digit) = character.filter(char::is_ascii_hexdigit) {
            digits.push(digit);
            continue;
        }
        let kept = if digits.len() < IDENTIFIER {
            digits.len()
        } else {
            DIGITS
        };
        short.extend(digits.drain(..).take(kept));
        short.extend(character);
    }
    short
}

#[cfg(test)]
#[path = "fields_tests.rs"]
mod tests;
