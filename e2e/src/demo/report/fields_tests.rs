use serde_json::json;

use super::*;

/// The room in a line after the longest name of the five stages.
const ROOM: usize = 147;

fn told(outputs: Value) -> String {
    let Value::Object(outputs) = outputs else {
        panic!("outputs are an object");
    };
    let line = line(&outputs, ROOM);
    assert!(line.chars().count() <= ROOM, "{line}");
    line
}

#[test]
fn scaffold_tells_how_much_it_made_and_of_what() {
    let outputs = json!({
        "provider": "builtin", "files": 24, "directories": 6, "lines": 1210,
        "mainFiles": ["index.html", "src/main.ts", "src/calculator.ts", "src/view.ts", "e2e/calculator.spec.ts"],
        "operations": ["add", "subtract", "multiply", "divide", "power"],
        "features": ["keyboard"],
        "decisions": ["numbers have at most 12 digits"],
        "requirements": [{"number": 1, "met": "operation add"}, {"number": 2, "met": "operation subtract"}],
    });
    assert_eq!(
        told(outputs),
        "files 24, directories 6, lines 1210, operations [add, subtract, multiply, divide, +1], features [keyboard], …"
    );
    let requirements = json!({"requirements": [{"number": 1, "met": "operation add"}], "files": 2});
    assert_eq!(told(requirements), "files 2, requirements 1");
}

#[test]
fn checks_tell_how_they_ended_and_findings_come_before_them() {
    let passed = json!({
        "checks": {
            "typescript": {"state": "passed", "seconds": 2.1, "errors": 0, "tool": "typescript 5.9.3"},
            "tests": {"state": "passed", "seconds": 3.4, "passed": 42, "failed": 0, "tool": "vitest 5.1.1"},
        },
        "findingsTotal": 0,
        "findings": [],
    });
    assert_eq!(
        told(passed),
        "no findings, tests passed (42 passed), typescript passed"
    );

    let failed = json!({
        "checks": {"build": {"state": "notRun", "seconds": 0.0}, "tests": {"state": "failed", "failed": 70}},
        "findingsTotal": 70,
        "findings": [
            {"check": "tests", "file": "src/sum.ts", "line": 3, "rule": "adds", "message": "expected 3,\ngot 4"},
            {"check": "tests", "message": "more"},
        ],
    });
    assert_eq!(
        told(failed),
        "findings 70 (tests src/sum.ts:3 adds expected 3, got 4), build not run, tests failed (70 failed)"
    );
}

#[test]
fn of_many_checks_those_are_told_that_there_is_room_for_and_the_failed_ones_first() {
    let passed = json!({"state": "passed", "seconds": 2.0, "tool": "some tool 1.2.3", "files": 1234, "linesCovered": 97.5});
    let mut outputs = json!({
        "branch": "main", "strategy": "squash", "commit": "0123456789abcdef0123456789abcdef01234567", "commits": 1,
        "conflicts": 0, "alreadyMerged": false, "findingsTotal": 0, "findings": [],
        "checks": {"build": passed, "eslint": passed, "install": passed, "tests": passed, "typescript": passed},
    });
    assert_eq!(
        told(outputs.clone()),
        "branch main, commit 0123456789ab, commits 1, strategy squash, conflicts 0, no findings, \
         build passed (1234 files 97.5 linesCovered), …"
    );
    outputs["checks"]["typescript"]["state"] = json!("failed");
    assert!(told(outputs).ends_with("no findings, typescript failed (1234 files 97.5 linesCovered), …"));
}

#[test]
fn the_totals_of_the_browser_are_told_once() {
    let outputs = json!({
        "checks": {"build": {"state": "passed", "files": 4}, "e2e": {"state": "passed", "passed": 6, "flaky": 1}},
        "totals": {"passed": 6, "flaky": 1, "failed": 0},
        "findingsTotal": 1,
        "findings": [{"check": "e2e", "message": "passed when tried again"}],
    });
    assert_eq!(
        told(outputs),
        "findings 1 (e2e passed when tried again), 1 flaky 6 passed, build passed (4 files), e2e passed"
    );
}

#[test]
fn integration_tells_which_commit_is_on_which_branch() {
    let outputs = json!({
        "branch": "main", "strategy": "squash", "from": null, "commit": "0123456789abcdef0123456789abcdef01234567",
        "commits": 1, "conflicts": 0, "alreadyMerged": false,
        "checks": {"tests": {"state": "passed", "passed": 42}}, "findingsTotal": 0, "findings": [],
    });
    assert_eq!(
        told(outputs),
        "branch main, commit 0123456789ab, commits 1, strategy squash, conflicts 0, no findings, \
         tests passed (42 passed), alreadyMerged false"
    );
}

#[test]
fn deployment_tells_where_it_is_and_how_it_is() {
    let digest = "ab".repeat(32);
    let outputs = json!({
        "image": format!("127.0.0.1:5000/stagecraft/team/shop@sha256:{digest}"), "registry": "127.0.0.1:5000",
        "repository": "stagecraft/team/shop", "namespace": "team", "deployment": "shop", "service": "shop",
        "endpoint": "http://shop.team.svc", "replicas": 2, "status": "available", "health": "200 in 12 ms",
        "revision": "4", "previous": null,
    });
    assert_eq!(
        told(outputs),
        "endpoint http://shop.team.svc, replicas 2, status available, health 200 in 12 ms, \
         image 127.0.0.1:5000/stagecraft/team/shop@sha256:abababababab, …"
    );
    let outputs =
        json!({"url": "http://shop.team.svc", "digest": format!("sha256:{digest}"), "revision": "4"});
    assert_eq!(
        told(outputs),
        "url http://shop.team.svc, digest sha256:abababababab, revision 4"
    );
}

#[test]
fn whatever_another_agent_puts_out_is_one_short_line_of_printable_text() {
    assert_eq!(
        told(json!({"b": {"x": 1, "y": [1, 2], "z": null}, "a": "two\nlines\u{1b}[31m", "c": {}, "d": []})),
        "a two lines [31m, b {x 1, y [1,2]}, d []"
    );
    let mut many = Map::new();
    for index in 0..50 {
        many.insert(format!("field{index:02}"), json!("ä".repeat(100)));
    }
    let line = told(Value::Object(many));
    assert!(line.starts_with("field00 ä") && line.ends_with('…'), "{line}");
    let nested = json!({"n": {"a": {"b": ["x".repeat(500)]}}, "findings": 7, "checks": "none", "totals": []});
    assert!(told(nested).starts_with("findings 7, totals [], checks none, n {a {"));
    assert_eq!(told(json!({"x".repeat(300): 1})).chars().count(), 82);
    assert_eq!(told(json!({})), "");
    assert_eq!(cut("ääää", 3), "ää…");
}
