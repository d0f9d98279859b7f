//! Which tools the stages work with.

use std::collections::BTreeMap;

use anyhow::Context as _;

/// The packages of the toolchain image that have a version of their own there.
const VERSIONS: &str = include_str!("../../../../toolchain/versions.json");
/// Longest line.
const WIDTH: usize = 110;
const MARGIN: &str = "              ";

/// Names and versions, for below the description of the machine.
pub fn describe() -> anyhow::Result<String> {
    let versions: BTreeMap<String, String> =
        serde_json::from_str(VERSIONS).context("toolchain/versions.json is not an object of strings")?;
    Ok(lines(&versions))
}

fn lines(versions: &BTreeMap<String, String>) -> String {
    let mut text = "  tools       ".to_owned();
    let mut width = text.len();
    for (index, (name, version)) in versions.iter().enumerate() {
        let tool = format!("{name} {version}");
        if index > 0 {
            text.push(',');
            if width + 2 + tool.len() > WIDTH {
                text.push('\n');
                text.push_str(MARGIN);
                width = MARGIN.len();
            } else {
                text.push(' ');
                width += 2;
            }
        }
        width += tool.len();
        text.push_str(&tool);
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_of_the_image_is_named_with_its_version() {
        let described = describe().unwrap();
        for name in ["typescript ", "vitest ", "vite ", "eslint ", "@playwright/test "] {
            assert!(described.contains(name), "{described}");
        }
        assert!(
            described.lines().all(|line| line.len() <= WIDTH + 1),
            "{described}"
        );
    }

    #[test]
    fn a_line_that_would_be_too_long_goes_on_in_the_next_one() {
        let versions = (0..9).map(|index| (format!("package-{index}"), "10.20.30".to_owned()));
        assert_eq!(
            lines(&versions.collect()),
            "  tools       package-0 10.20.30, package-1 10.20.30, package-2 10.20.30, package-3 10.20.30,\n\
             \x20             package-4 10.20.30, package-5 10.20.30, package-6 10.20.30, package-7 10.20.30,\n\
             \x20             package-8 10.20.30\n"
        );
    }
}
