//! The agents that judge generated code: `validation`, `e2e` and `integration`. Each runs checks of the toolchain image, one
//! after the other, and hands their reports to the runner, which measures them. ADR 0007 has the reasons.
//!
//! Reading order: here is which agent runs what; [`driver`] runs a check and hands its report over; [`process`] starts and
//! ends processes; [`session`] is the evidence session; [`site`] is the built application; [`leftovers`] are the files that
//! tests in a browser leave for people.

mod driver;
mod leftovers;
mod process;
mod session;
mod site;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use stagecraft_api::payload::{BuiltInPayload, Payload};
use stagecraft_api::result::{AgentResult, ArtifactDirectory, ArtifactFile};

use self::driver::{Driver, Ran};
use self::site::Site;
use crate::loopback::Check;
use crate::task;

/// Where the build puts the application, below the workspace.
const DISTRIBUTION: &str = "dist";
/// The artifact that the deployment agent takes.
const ARCHIVE: &str = "dist.tar";
const ARCHIVE_TYPE: &str = "application/x-tar";
const NOT_INSTALLED: &str = "the dependencies are not installed";
const NOT_BUILT: &str = "there is no build of the application to test: see the check build";

/// Checks the project.
pub fn validation() -> ExitCode {
    run("validation", |driver, payload| {
        let BuiltInPayload::Validation(payload) = payload else {
            return Ok(None);
        };
        driver.limit_checks(seconds(payload.check_timeout_seconds));
        let installed = driver.check(Check::Install)?.ran();
        for check in [Check::Typescript, Check::Eslint, Check::Tests, Check::Build] {
            if installed {
                driver.check(check)?;
            } else {
                driver.skip(check, NOT_INSTALLED)?;
            }
        }
        Ok(Some(Vec::new()))
    })
}

/// Tests the built application in a browser.
pub fn e2e() -> ExitCode {
    run("e2e", |driver, payload| {
        let BuiltInPayload::E2e(payload) = payload else {
            return Ok(None);
        };
        driver.limit_checks(seconds(payload.check_timeout_seconds));
        if !driver.check(Check::Install)?.ran() {
            driver.skip(Check::Build, NOT_INSTALLED)?;
            driver.skip(Check::E2e, NOT_INSTALLED)?;
            return Ok(Some(Vec::new()));
        }
        driver.check(Check::Build)?;
        let directory = driver.workspace().join(DISTRIBUTION);
        let Ok(site) = Site::read(&directory) else {
            driver.skip(Check::E2e, NOT_BUILT)?;
            return Ok(Some(Vec::new()));
        };
        let output = driver.artifacts().join("e2e");
        std::fs::create_dir_all(&output)?;
        let address = site::serve(&directory)?;
        let variables = [
            ("BASE_URL", format!("http://{address}/")),
            ("OUTPUT_DIR", output.display().to_string()),
            ("RETRIES", payload.test_retries.to_string()),
        ];
        // Whoever can change what is tested can make any test pass.
        let unchanged = || match Site::read(&directory) {
            Ok(after) if after == site => Ok(()),
            _ => Err("the built application was changed while it was tested".to_owned()),
        };
        let ran = driver.check_with(Check::E2e, &variables, unchanged)?;
        let report = match &ran {
            Ran::Yes { report } => report.as_str(),
            Ran::No => "",
        };
        Ok(Some(leftovers::collect(driver.artifacts(), &output, report)?))
    })
}

/// Checks what a branch of the project would hold, and leaves the built application behind.
pub fn integration() -> ExitCode {
    run("integration", |driver, payload| {
        let BuiltInPayload::Integration(payload) = payload else {
            return Ok(None);
        };
        driver.limit_checks(seconds(payload.check_timeout_seconds));
        if !driver.check(Check::Install)?.ran() {
            for check in [Check::Typescript, Check::Build, Check::Tests] {
                driver.skip(check, NOT_INSTALLED)?;
            }
            return Ok(Some(Vec::new()));
        }
        driver.check(Check::Typescript)?;
        // Before the tests, which could write over the sources, and kept in memory, where they cannot write.
        let built = driver.check(Check::Build)?.ran();
        let site = Site::read(&driver.workspace().join(DISTRIBUTION));
        driver.check(Check::Tests)?;
        match site {
            Ok(site) if built => Ok(Some(vec![keep(&site, driver.artifacts())?])),
            _ => Ok(Some(Vec::new())),
        }
    })
}

fn keep(site: &Site, artifacts: &Path) -> anyhow::Result<ArtifactFile> {
    std::fs::write(artifacts.join(ARCHIVE), site.archive()?)?;
    Ok(ArtifactFile {
        name: ARCHIVE.to_owned(),
        path: ARCHIVE.to_owned(),
        directory: ArtifactDirectory::Artifacts,
        media_type: Some(ARCHIVE_TYPE.to_owned()),
    })
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(u64::from(seconds))
}

/// Opens the session before anything else, has the checks done, and hands in the result: artifacts, or none when the task is
/// another agent's.
fn run(
    agent: &'static str,
    checks: impl FnOnce(&mut Driver, &BuiltInPayload) -> anyhow::Result<Option<Vec<ArtifactFile>>>,
) -> ExitCode {
    task::finish(|| {
        let mut driver = Driver::start(agent)?;
        let task = driver.task()?;
        let artifacts = match &task.payload {
            Payload::BuiltIn(payload) => checks(&mut driver, payload)?,
            Payload::Other { .. } => None,
        };
        let Some(artifacts) = artifacts else {
            bail!(
                "the task is for the agent {}, not for {agent}",
                task.payload.agent()
            );
        };
        driver.hand_in(&AgentResult {
            summary: driver.words(),
            artifacts,
            ..AgentResult::default()
        })?;
        Ok(ExitCode::SUCCESS)
    })
}
