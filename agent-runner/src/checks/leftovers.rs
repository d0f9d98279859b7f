//! What tests in a browser leave for people: screenshots, videos and traces of what failed, and the report as pages.

use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;
use stagecraft_api::error::truncate;
use stagecraft_api::result::{ArtifactDirectory, ArtifactFile};

use super::site::Site;

/// Most files of failed tests. Reports of checks are artifacts too, and all together are limited.
const FILES: usize = 18;
/// Longest part of a name that comes from a test, in bytes.
const NAME_BYTES: usize = 60;
/// The report as pages, below the directory of the check's output.
const PAGES: &str = "report";

#[derive(Deserialize, Default)]
#[serde(default)]
struct Report {
    tests: Vec<Test>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Test {
    name: String,
    state: String,
    attachments: Vec<Attachment>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Attachment {
    name: String,
    path: String,
    content_type: String,
}

/// The artifacts of an end-to-end check. `output` is its directory, below that for artifacts.
pub fn collect(artifacts: &Path, output: &Path, report: &str) -> anyhow::Result<Vec<ArtifactFile>> {
    let report: Report = serde_json::from_str(report).unwrap_or_default();
    let mut found = Vec::new();
    if let Ok(pages) = Site::read(&output.join(PAGES)) {
        std::fs::write(artifacts.join("report.tar"), pages.archive()?)
            .context("the report's pages cannot be packed")?;
        found.push(artifact(
            "report.tar".to_owned(),
            "report.tar".to_owned(),
            "application/x-tar",
        ));
        let page = output.join(PAGES).join("index.html");
        if let Some(path) = below(artifacts, &page) {
            found.push(artifact("report.html".to_owned(), path, "text/html"));
        }
    }
    let (failed, others): (Vec<_>, Vec<_>) = report.tests.iter().partition(|test| test.state == "failed");
    for (number, test) in failed.into_iter().chain(others).enumerate() {
        for (index, attachment) in test.attachments.iter().enumerate() {
            let file = Path::new(&attachment.path);
            let Some(path) = below(artifacts, file).filter(|_| found.len() < FILES) else {
                continue;
            };
            let kind = file.extension().and_then(|kind| kind.to_str()).unwrap_or("bin");
            let name = format!(
                "{}/{}-{}-{}.{}",
                plain(&test.state),
                number + 1,
                plain(&test.name),
                plain(&format!("{}-{}", attachment.name, index + 1)),
                plain(kind)
            );
            found.push(artifact(name, path, &truncate(&attachment.content_type, 100)));
        }
    }
    Ok(found)
}

fn artifact(name: String, path: String, media_type: &str) -> ArtifactFile {
    ArtifactFile {
        name,
        path,
        directory: ArtifactDirectory::Artifacts,
        media_type: Some(media_type.to_owned()),
    }
}

/// Where a file is below a directory, if it is a regular one there. No link is followed.
fn below(directory: &Path, file: &Path) -> Option<String> {
    let relative = file.strip_prefix(directory).ok()?;
    let found = std::fs::symlink_metadata(file).ok()?;
    found.is_file().then(|| relative.to_str().map(str::to_owned))?
}

/// Letters, digits and dashes.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    for character in text.chars() {
        if character.is_ascii_alphanumeric() {
            plain.push(character.to_ascii_lowercase());
        } else if !plain.ends_with('-') && !plain.is_empty() {
            plain.push('-');
        }
        if plain.len() >= NAME_BYTES {
            break;
        }
    }
    plain.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn files_of_failed_tests_come_first_and_nothing_from_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        let artifacts = directory.path().join("artifacts");
        let output = artifacts.join("e2e");
        std::fs::create_dir_all(output.join("report/data")).unwrap();
        for file in ["a.png", "b.webm", "report/index.html", "report/data/x.zip"] {
            std::fs::write(output.join(file), file).unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", output.join("link.png")).unwrap();
        let at = |file: &str| output.join(file).display().to_string();
        let report = json!({"tests": [
            {"name": "flaky one", "state": "flaky", "attachments": [{"name": "screenshot", "path": at("a.png"), "contentType": "image/png"}]},
            {"name": "adds ../ things", "state": "failed", "attachments": [
                {"name": "video", "path": at("b.webm"), "contentType": "video/webm"},
                {"name": "evil", "path": "/etc/passwd", "contentType": "text/plain"},
                {"name": "evil", "path": at("link.png"), "contentType": "image/png"},
            ]},
        ]});
        let found = collect(&artifacts, &output, &report.to_string()).unwrap();
        let names: Vec<(&str, &str)> = found
            .iter()
            .map(|file| (file.name.as_str(), file.path.as_str()))
            .collect();
        assert_eq!(
            names,
            [
                ("report.tar", "report.tar"),
                ("report.html", "e2e/report/index.html"),
                ("failed/1-adds-things-video-1.webm", "e2e/b.webm"),
                ("flaky/2-flaky-one-screenshot-1.png", "e2e/a.png"),
            ]
        );
        assert!(artifacts.join("report.tar").is_file());
        let nothing = collect(&artifacts, &artifacts.join("absent"), "").unwrap();
        assert!(nothing.is_empty());
    }
}
