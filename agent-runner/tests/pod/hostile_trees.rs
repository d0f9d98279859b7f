//! Trees that no git would write, made to reach out of the workspace.

use std::fs;

use git2::{Oid, Repository};
use stagecraft_agent_runner::runner::git::checkout::checkout;

use crate::git::Scene;

/// A commit of a tree that is taken as it is, without git's own checks.
fn commit_raw(repository: &Repository, tree: &[u8]) -> Oid {
    let tree = repository
        .odb()
        .unwrap()
        .write(git2::ObjectType::Tree, tree)
        .unwrap();
    let tree = repository.find_tree(tree).unwrap();
    let who = git2::Signature::now("x", "x@example.org").unwrap();
    repository.commit(None, &who, &who, "x", &tree, &[]).unwrap()
}

#[test]
fn a_hostile_tree_is_not_checked_out() {
    let scene = Scene::new();
    let blob = scene.repository.blob(b"evil").unwrap();
    for name in [".git", "..", "a/b", ".GIT", "git~1"] {
        let mut raw = format!("100644 {name}\0").into_bytes();
        raw.extend_from_slice(blob.as_bytes());
        let commit = commit_raw(&scene.repository, &raw);
        assert!(
            checkout(&scene.repository, commit, &scene.open()).is_err(),
            "{name}"
        );
    }
    assert_eq!(fs::read_dir(scene.path("")).unwrap().count(), 0);
    assert!(!scene.root.path().join("b").exists());
}

/// A tree with a link and below the same name a directory would write through the link.
#[test]
fn a_tree_cannot_write_through_its_own_link() {
    let scene = Scene::new();
    let outside = tempfile::tempdir().unwrap();
    let target = scene
        .repository
        .blob(outside.path().to_str().unwrap().as_bytes())
        .unwrap();
    let mut inner = scene.repository.treebuilder(None).unwrap();
    inner
        .insert("file", scene.repository.blob(b"evil").unwrap(), 0o100_644)
        .unwrap();
    let inner = inner.write().unwrap();
    let mut raw = b"120000 a\0".to_vec();
    raw.extend_from_slice(target.as_bytes());
    raw.extend_from_slice(b"40000 a\0");
    raw.extend_from_slice(inner.as_bytes());
    let commit = commit_raw(&scene.repository, &raw);
    assert!(checkout(&scene.repository, commit, &scene.open()).is_err());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}
