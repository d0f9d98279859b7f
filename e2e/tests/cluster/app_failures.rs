//! What must not pass, each for its own reason: work that was spoilt between two stages of the type `app`.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use stagecraft_api::status::{StagePhase, StageStatus};
use stagecraft_api::{Workflow, WorkflowStatus};
use stagecraft_e2e::scenario::app::{Sabotage, calculator_by, sabotaged};
use stagecraft_e2e::scenario::world::stage;
use stagecraft_e2e::scenario::{Isolation, World, scenario};

const LIMIT: Duration = Duration::from_mins(8);

/// What the failed stage has to say.
struct Expected<'a> {
    stage: &'a str,
    /// A metric whose gate failed.
    metric: &'a str,
    /// Texts that the stage's outputs, error or gates have to hold.
    texts: &'a [&'a str],
}

/// Spoils the work after `scaffold`, and looks for the reason in the stage that has to notice.
fn spoilt(files: &Value, remove: &Value, expected: &Expected<'_>) -> anyhow::Result<()> {
    spoilt_and(files, remove, expected, async |_, _| Ok(()))
}

fn spoilt_and(
    files: &Value,
    remove: &Value,
    expected: &Expected<'_>,
    then: impl AsyncFnOnce(&World, &StageStatus) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let sabotage = Sabotage {
            after: "scaffold",
            until: expected.stage,
            files: files.clone(),
            remove: remove.clone(),
        };
        let stages = if expected.stage == "e2e" {
            &["validate"][..]
        } else {
            &[]
        };
        sabotaged(world, "spoilt", &sabotage, stages).await?;
        world
            .create::<Workflow>(calculator_by("spoilt", "spoilt"))
            .await?;
        let status = world.failed("spoilt", LIMIT).await?;
        let failed = refused(&status, expected)?;
        then(world, failed).await
    })
}

/// The stage failed once, by the gate and for the reason expected, and says what to do.
fn refused<'a>(status: &'a WorkflowStatus, expected: &Expected<'_>) -> anyhow::Result<&'a StageStatus> {
    let failed = stage(status, expected.stage)?;
    ensure!(failed.phase == StagePhase::Failed, "{failed:?}");
    let error = failed.error.as_ref().context("the stage has no error")?;
    ensure!(error.code == "GateFailed", "{error:?}");
    ensure!(
        error.suggested_action.is_some(),
        "nothing says what to do: {error:?}"
    );
    ensure!(
        failed.attempt == 1,
        "the same work was judged {} times",
        failed.attempt
    );
    let gate = failed.gates.iter().find(|gate| gate.metric == expected.metric);
    ensure!(gate.is_some_and(|gate| !gate.passed), "{:?}", failed.gates);
    let said = format!("{} {}", error.message, serde_json::to_string(&failed.outputs)?);
    for text in expected.texts {
        ensure!(said.contains(text), "{text:?} is not in {said}");
    }
    Ok(failed)
}

/// Code that no test runs.
fn uncovered() -> String {
    let function = |number: u32| {
        format!(
            "export function unused{number}(value: number): number {{\n  const more = value + {number};\n  return more * 2;\n}}\n"
        )
    };
    (0..150).map(function).collect()
}

#[test]
fn a_type_error() -> anyhow::Result<()> {
    let files = json!({"src/broken.ts": "export const broken: number = 'text';\n"});
    let expected = Expected {
        stage: "validate",
        metric: "typescriptErrors",
        texts: &["src/broken.ts", "TS2322"],
    };
    spoilt(&files, &json!([]), &expected)
}

#[test]
fn a_lint_error() -> anyhow::Result<()> {
    let files = json!({"src/sloppy.ts": "export function sloppy(value: number): boolean {\n  return value == 1;\n}\n"});
    let expected = Expected {
        stage: "validate",
        metric: "lintErrors",
        texts: &["src/sloppy.ts", "eqeqeq"],
    };
    spoilt(&files, &json!([]), &expected)
}

#[test]
fn a_lint_error_behind_a_comment_that_switches_the_rule_off() -> anyhow::Result<()> {
    let text =
        "/* eslint-disable */\nexport function sloppy(value: number): boolean {\n  return value == 1;\n}\n";
    let expected = Expected {
        stage: "validate",
        metric: "lintErrors",
        texts: &["src/sloppy.ts", "eqeqeq"],
    };
    spoilt(&json!({"src/sloppy.ts": text}), &json!([]), &expected)
}

#[test]
fn a_failing_unit_test() -> anyhow::Result<()> {
    let text =
        "import { expect, test } from 'vitest';\n\ntest('one is two', () => {\n  expect(1).toBe(2);\n});\n";
    let expected = Expected {
        stage: "validate",
        metric: "testsFailed",
        texts: &["tests/failing.test.ts", "one is two"],
    };
    spoilt(&json!({"tests/failing.test.ts": text}), &json!([]), &expected)
}

#[test]
fn coverage_under_four_fifths() -> anyhow::Result<()> {
    let expected = Expected {
        stage: "validate",
        metric: "linesCovered",
        texts: &["linesCovered is"],
    };
    spoilt(&json!({"src/uncovered.ts": uncovered()}), &json!([]), &expected)
}

#[test]
fn a_suite_that_exits_with_status_zero() -> anyhow::Result<()> {
    let text = "import { test } from 'vitest';\n\ntest('leaves', () => {\n  process.exit(0);\n});\n";
    let expected = Expected {
        stage: "validate",
        metric: "testsFailed",
        texts: &["process.exit"],
    };
    spoilt(&json!({"tests/leaves.test.ts": text}), &json!([]), &expected)
}

#[test]
fn an_empty_suite() -> anyhow::Result<()> {
    let expected = Expected {
        stage: "validate",
        metric: "testsPassed",
        texts: &["testsPassed is 0"],
    };
    spoilt(&json!({}), &json!(["tests"]), &expected)
}

#[test]
fn an_emptied_lint_configuration() -> anyhow::Result<()> {
    let expected = Expected {
        stage: "validate",
        metric: "lintErrors",
        texts: &["weakened"],
    };
    spoilt(
        &json!({"eslint.config.mjs": "export default [];\n"}),
        &json!([]),
        &expected,
    )
}

#[test]
fn a_coverage_file_that_a_test_forged() -> anyhow::Result<()> {
    let forger = "import { mkdirSync, writeFileSync } from 'node:fs';\nimport { spawn } from 'node:child_process';\n\
                  import { expect, test } from 'vitest';\n\n\
                  const summary = JSON.stringify({ total: { lines: { total: 1, covered: 1, pct: 100 } } });\n\n\
                  test('forges', () => {\n  mkdirSync('coverage', { recursive: true });\n  \
                  for (const name of ['coverage-final.json', 'coverage-summary.json', 'lcov.info']) {\n    \
                  writeFileSync(`coverage/${name}`, summary);\n  }\n  \
                  spawn('sh', ['-c', 'while :; do echo forged > coverage/coverage-summary.json; done'], {\n    \
                  detached: true,\n    stdio: 'ignore',\n  }).unref();\n  expect(summary).toContain('100');\n});\n";
    let expected = Expected {
        stage: "validate",
        metric: "linesCovered",
        texts: &["linesCovered is"],
    };
    let files = json!({"src/uncovered.ts": uncovered(), "tests/forge.test.ts": forger});
    spoilt(&files, &json!([]), &expected)
}

#[test]
fn a_compiler_configuration_that_leaves_the_sources_out() -> anyhow::Result<()> {
    let files = json!({
        "tsconfig.json": "{\"compilerOptions\": {\"strict\": true}, \"include\": [\"vite.config.ts\"], \"exclude\": [\"src\"]}\n",
        "src/broken.ts": "export const broken: number = 'text';\n",
    });
    let expected = Expected {
        stage: "validate",
        metric: "typescriptErrors",
        texts: &["not-checked", "src/"],
    };
    spoilt(&files, &json!([]), &expected)
}

#[test]
fn a_spec_that_fails_in_the_browser_leaves_a_picture_and_a_film() -> anyhow::Result<()> {
    let text = "import { expect, test } from '@playwright/test';\n\ntest('shows what is not there', async ({ page }) => {\n  \
                await page.goto('/');\n  await expect(page.getByText('no such text')).toBeVisible({ timeout: 1000 });\n});\n";
    let expected = Expected {
        stage: "e2e",
        metric: "e2eFailed",
        texts: &["e2e/failing.spec.ts", "shows what is not there"],
    };
    spoilt_and(
        &json!({"e2e/failing.spec.ts": text}),
        &json!([]),
        &expected,
        async |_, failed| {
            for kind in ["image/png", "video/webm"] {
                let kept = failed
                    .artifacts
                    .iter()
                    .any(|artifact| artifact.media_type == kind && artifact.bytes > 0);
                ensure!(kept, "no {kind} among {:?}", failed.artifacts);
            }
            Ok(())
        },
    )
}

#[test]
fn no_spec_at_all() -> anyhow::Result<()> {
    let expected = Expected {
        stage: "e2e",
        metric: "e2ePassed",
        texts: &["e2ePassed is 0"],
    };
    spoilt(&json!({}), &json!(["e2e"]), &expected)
}
