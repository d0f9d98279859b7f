//! The committed files are what the types say.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::root;

#[test]
fn generated_definitions_are_fresh() {
    check(&[], "crds/generated");
}

#[test]
fn the_charts_definitions_are_fresh() {
    check(&["--chart"], "charts/stagecraft/templates/crds");
}

fn check(options: &[&str], committed: &str) {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(committed);
    let _ = fs::remove_dir_all(&directory);
    let status = Command::new(env!("CARGO_BIN_EXE_generate-crds"))
        .args(options)
        .arg(&directory)
        .status()
        .unwrap();
    assert!(status.success());
    let (fresh, found) = (files(&directory), files(&root().join(committed)));
    let stale: Vec<&String> = fresh
        .keys()
        .chain(found.keys())
        .filter(|name| fresh.get(*name) != found.get(*name))
        .collect();
    assert!(
        stale.is_empty(),
        "{committed} is not what the types in crds/src say ({stale:?}): run `make generate`, or \
         `cargo run -p stagecraft-api --bin generate-crds`, and remove files of kinds that are gone"
    );
}

fn files(directory: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    entries
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read_to_string(entry.path()).unwrap())
        })
        .collect()
}
