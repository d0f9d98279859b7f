use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::Answer;
use super::object::{Key, Stored};
use super::resource::Resource;
use super::{ApiServer, State};

/// One write.
#[derive(Clone, Debug)]
pub struct Change {
    pub kind: ChangeKind,
    pub key: Key,
    /// What it left; what was there last for a deletion, under the revision of the deletion.
    pub object: Arc<Stored>,
    pub before: Option<Arc<Stored>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Added,
    Modified,
    Deleted,
}

impl ChangeKind {
    fn text(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// What a list or watch asks for.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    pub namespace: Option<String>,
    /// Label and value that it must have; none for any.
    pub labels: Vec<(String, Option<String>)>,
    /// Dotted path and value.
    pub fields: Vec<(String, String)>,
}

impl Selection {
    pub fn parse(namespace: Option<String>, labels: &str, fields: &str) -> Self {
        let parts = |text: &str| {
            text.split(',')
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let labels = parts(labels).into_iter().map(|part| match part.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.trim_start_matches('=').to_owned())),
            None => (part, None),
        });
        let fields = parts(fields).into_iter().filter_map(|part| {
            let (path, value) = part.split_once('=')?;
            Some((path.to_owned(), value.trim_start_matches('=').to_owned()))
        });
        Self {
            namespace,
            labels: labels.collect(),
            fields: fields.collect(),
        }
    }

    pub fn takes(&self, object: &Stored) -> bool {
        let in_namespace = self
            .namespace
            .as_deref()
            .is_none_or(|wanted| wanted == object.namespace());
        let labelled = self
            .labels
            .iter()
            .all(|(name, value)| match (object.label(name), value) {
                (Some(found), Some(wanted)) => found == wanted,
                (Some(_), None) => true,
                (None, _) => false,
            });
        in_namespace
            && labelled
            && self
                .fields
                .iter()
                .all(|(path, value)| object.text_at(path) == value)
    }
}

/// A watch: what happens to the objects that it selects, from one revision on.
pub struct Changes {
    server: Arc<ApiServer>,
    resource: Option<&'static Resource>,
    selection: Selection,
    /// Number of the next change to look at, from the server's start.
    next: usize,
}

impl ApiServer {
    /// Everything that will happen.
    pub fn follow(self: &Arc<Self>) -> Changes {
        let state = self.state();
        Changes {
            server: self.clone(),
            resource: None,
            selection: Selection::default(),
            next: state.log.len(),
        }
    }

    pub(super) fn watch(
        self: &Arc<Self>,
        resource: &'static Resource,
        selection: Selection,
        from: u64,
    ) -> Result<Changes, Answer> {
        let state = self.state();
        if from < state.oldest && from != 0 {
            return Err(Answer::expired(from, state.oldest));
        }
        let seen = state.log.partition_point(|change| change.object.revision <= from);
        Ok(Changes {
            server: self.clone(),
            resource: Some(resource),
            selection,
            next: seen,
        })
    }
}

impl State {
    /// A client that has fallen behind the compaction has to begin anew; who follows everything never does.
    fn change(&self, number: usize, follows: bool) -> Result<Option<&Change>, Answer> {
        if number < self.compacted && !follows {
            return Err(Answer::expired(0, self.oldest));
        }
        Ok(self.log.get(number))
    }
}

impl Changes {
    /// The next change. An error: what comes next was compacted.
    pub async fn next(&mut self) -> Result<Change, Answer> {
        loop {
            let server = self.server.clone();
            let changed = server.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(change) = self.known()? {
                return Ok(change);
            }
            changed.await;
        }
    }

    /// The next of those that have happened already.
    pub fn known(&mut self) -> Result<Option<Change>, Answer> {
        let state = self.server.state();
        while let Some(change) = state.change(self.next, self.resource.is_none())? {
            self.next += 1;
            if self
                .resource
                .is_none_or(|resource| *resource == *change.key.resource)
                && let Some(kind) = self.selection.kind_of(change)
            {
                return Ok(Some(seen_as(change, kind)));
            }
        }
        Ok(None)
    }
}

/// What has left the selection is shown as it was while it belonged there.
fn seen_as(change: &Change, kind: ChangeKind) -> Change {
    let mut seen = Change {
        kind,
        ..change.clone()
    };
    if (change.kind, kind) == (ChangeKind::Modified, ChangeKind::Deleted)
        && let Some(before) = &change.before
    {
        seen.object = Arc::new(Stored::new(before.value.clone(), change.object.revision));
    }
    seen
}

impl Selection {
    /// What a change is to whoever sees these objects alone.
    fn kind_of(&self, change: &Change) -> Option<ChangeKind> {
        let was = change.before.as_ref().is_some_and(|before| self.takes(before));
        let is = change.kind != ChangeKind::Deleted && self.takes(&change.object);
        match (was, is) {
            (false, false) => None,
            (false, true) => Some(ChangeKind::Added),
            (true, true) => Some(ChangeKind::Modified),
            (true, false) => Some(ChangeKind::Deleted),
        }
    }
}

/// One line of a watch.
pub fn line(change: &Change) -> Bytes {
    let head = format!("{{\"type\":\"{}\",\"object\":", change.kind.text());
    Bytes::from([head.as_bytes(), &change.object.text, b"}\n"].concat())
}

pub fn error_line(answer: &Answer) -> Bytes {
    text_line(&json!({"type": "ERROR", "object": answer.status()}))
}

pub fn bookmark_line(resource: &Resource, revision: u64) -> Bytes {
    text_line(&json!({"type": "BOOKMARK", "object": {
        "kind": resource.kind, "apiVersion": resource.api_version(),
        "metadata": {"resourceVersion": revision.to_string(), "creationTimestamp": null},
    }}))
}

fn text_line(value: &Value) -> Bytes {
    Bytes::from(format!("{value}\n"))
}
