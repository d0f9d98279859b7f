//! A Pod with a project to check, and tools that are shell scripts.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitStatus;

use git2::Oid;
use serde_json::{Value, json};
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::result::Outcome;
use stagecraft_api::{Digest, StructuredError};

use crate::gateway::Gateway;
use crate::history::History;
use crate::integration::stored;
use crate::pod::{self, AGENT, Pod};

const GOOD: [(&str, &str); 6] = [
    (
        "install",
        r#"{"check": "install", "tool": {"name": "npm", "version": "1"}, "packages": 3}"#,
    ),
    (
        "typescript",
        r#"{"check": "typescript", "tool": {"name": "typescript", "version": "1"}, "files": ["src/a.ts"], "diagnostics": [], "total": 0}"#,
    ),
    (
        "eslint",
        r#"{"check": "eslint", "tool": {"name": "eslint", "version": "1"}, "files": ["src/a.ts"], "messages": [], "errors": 0, "warnings": 0, "weakened": []}"#,
    ),
    (
        "tests",
        r#"{"check": "tests", "tool": {"name": "vitest", "version": "1"}, "tests": [{"file": "tests/a.test.ts", "name": "adds", "state": "passed", "seconds": 0.1}], "errors": [], "coverage": {"files": {"src/a.ts": {"lines": 2, "covered": 2}}}}"#,
    ),
    (
        "build",
        r#"{"check": "build", "tool": {"name": "vite", "version": "1"}, "directory": "dist", "files": [{"path": "index.html", "bytes": 4}]}"#,
    ),
    (
        "e2e",
        r#"{"check": "e2e", "tool": {"name": "playwright", "version": "1"}, "tests": [{"file": "e2e/a.spec.ts", "name": "opens", "state": "passed", "seconds": 0.5}], "errors": []}"#,
    ),
];

pub fn report(check: &str) -> &'static str {
    GOOD.iter().find(|(name, _)| *name == check).unwrap().1
}

/// What a check does when it is as it should be; the build leaves an application behind.
pub fn good(check: &str) -> String {
    let build = "mkdir -p dist/assets; echo page > dist/index.html; echo code > dist/assets/a.js";
    let work = if check == "build" { build } else { ":" };
    format!("{work}\ncat >&3 <<'REPORT'\n{}\nREPORT", report(check))
}

/// A Pod with a project to check.
pub struct Checking {
    pub history: History,
    pub work: Oid,
    pub gateway: Gateway,
    pub pod: Pod,
    agent: &'static str,
}

impl Checking {
    /// With scripts in place of those checks.
    pub fn new(agent: &'static str, payload: &Value, scripts: &[(&str, &str)]) -> Self {
        let history = History::new();
        let work = history.commit(&[], &[("src/a.ts", "one\ntwo\n"), ("tests/a.test.ts", "test\n")]);
        let gateway = Gateway::start(crate::task::task(&json!({})));
        let workspace = stored(&gateway, &history, work);
        let mut task = serde_json::to_value(crate::task::task(&json!({}))).unwrap();
        task["agent"] = json!(agent);
        task["payload"] = payload.clone();
        task["workspace"] = json!(workspace);
        task["workspaceAccess"] = json!("read");
        task["command"] = json!(["stagecraft-agent", agent]);
        let task: TaskEnvelope = serde_json::from_value(task).unwrap();
        gateway.change(|seen| seen.task = Some(task));
        let pod = Pod::start(&gateway);
        let toolchain = pod.path("toolchain");
        for directory in ["bin", "checks"] {
            std::fs::create_dir_all(toolchain.join(directory)).unwrap();
        }
        program(&toolchain.join("bin/node"), "exec /bin/sh -eu \"$1\"");
        for (check, _) in GOOD {
            let script = scripts
                .iter()
                .find(|(name, _)| *name == check)
                .map_or_else(|| good(check), |(_, script)| (*script).to_owned());
            std::fs::write(toolchain.join(format!("checks/{check}.mjs")), script).unwrap();
        }
        Self {
            history,
            work,
            gateway,
            pod,
            agent,
        }
    }

    pub async fn run(&self) -> ExitStatus {
        let mut agent = self.pod.agent(&[AGENT, self.agent]).await;
        pod::wait(&mut agent).await
    }

    pub async fn succeeded(&self) -> Good {
        let status = self.run().await;
        let result = self.gateway.result().await;
        let Outcome::Succeeded {
            summary,
            outputs,
            workspace,
            artifacts,
            metrics,
        } = result.outcome
        else {
            panic!("{result:?}");
        };
        assert_eq!(status.code(), Some(0));
        assert_eq!(workspace.unwrap().commit, self.work.to_string());
        let artifacts = artifacts
            .into_iter()
            .map(|artifact| (artifact.name, artifact.digest))
            .collect();
        Good {
            summary,
            outputs: Value::Object(outputs),
            metrics: json!(metrics),
            artifacts,
        }
    }

    pub async fn failed(&self) -> StructuredError {
        self.run().await;
        let Outcome::Failed { error } = self.gateway.result().await.outcome else {
            panic!("it succeeded");
        };
        error
    }
}

pub struct Good {
    pub summary: String,
    pub outputs: Value,
    pub metrics: Value,
    pub artifacts: Vec<(String, Digest)>,
}

fn program(path: &Path, script: &str) {
    std::fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
