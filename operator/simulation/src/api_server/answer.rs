use serde_json::{Value, json};

use super::object::Key;
use super::resource::Resource;

/// A failure as the server words it.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub code: u16,
    /// Empty where the server gives none.
    pub reason: &'static str,
    pub message: String,
}

impl Answer {
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
        }
    }

    pub fn not_found(key: &Key) -> Self {
        let message = format!("{} \"{}\" not found", key.resource.qualified(), key.name);
        Self::new(404, "NotFound", message)
    }

    pub fn already_exists(key: &Key) -> Self {
        let message = format!("{} \"{}\" already exists", key.resource.qualified(), key.name);
        Self::new(409, "AlreadyExists", message)
    }

    /// Somebody else has written since.
    pub fn modified(key: &Key) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{}\": the object has been modified; please apply your changes to the latest \
             version and try again",
            key.resource.qualified(),
            key.name
        );
        Self::new(409, "Conflict", message)
    }

    /// What a deletion was to find.
    pub fn precondition(key: &Key, what: &str, wanted: &str, found: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{}\": the {what} in the precondition ({wanted}) does not match the {what} in record \
             ({found}). The object might have been deleted and then recreated",
            key.resource.qualified(),
            key.name
        );
        Self::new(409, "Conflict", message)
    }

    pub fn expired(wanted: u64, oldest: u64) -> Self {
        let message = format!("too old resource version: {wanted} ({oldest})");
        Self::new(410, "Expired", message)
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub fn invalid(resource: &Resource, name: &str, message: &str) -> Self {
        let message = format!("{} \"{name}\" is invalid: {message}", resource.kind);
        Self::new(422, "Invalid", message)
    }

    /// The Status object that is sent.
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = json!(self.reason);
        }
        status
    }
}
