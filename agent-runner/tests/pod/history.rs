//! Commits made by hand.

use std::collections::BTreeMap;

use git2::{Commit, Oid, Repository, Signature, Time};
use stagecraft_agent_runner::runner::git as runner_git;
use tempfile::TempDir;

pub struct History {
    _root: TempDir,
    pub repository: Repository,
}

impl History {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let repository = runner_git::open(&root.path().join("git")).unwrap();
        Self {
            _root: root,
            repository,
        }
    }

    /// A commit that holds exactly these files.
    pub fn commit(&self, parents: &[Oid], files: &[(&str, &str)]) -> Oid {
        self.commit_by("Ada", "work", parents, files)
    }

    pub fn commit_by(&self, author: &str, message: &str, parents: &[Oid], files: &[(&str, &str)]) -> Oid {
        let mut index = git2::Index::new().unwrap();
        for (path, text) in files {
            let id = self.repository.blob(text.as_bytes()).unwrap();
            let entry = git2::IndexEntry {
                ctime: git2::IndexTime::new(0, 0),
                mtime: git2::IndexTime::new(0, 0),
                dev: 0,
                ino: 0,
                mode: 0o100_644,
                uid: 0,
                gid: 0,
                file_size: 0,
                id,
                flags: 0,
                flags_extended: 0,
                path: path.as_bytes().to_vec(),
            };
            index.add(&entry).unwrap();
        }
        let tree = index.write_tree_to(&self.repository).unwrap();
        let tree = self.repository.find_tree(tree).unwrap();
        let time = Time::new(1_700_000_000, 60);
        let signature = Signature::new(author, &format!("{author}@example.org"), &time).unwrap();
        let parents: Vec<Commit<'_>> = parents.iter().map(|id| self.find(*id)).collect();
        let parents: Vec<&Commit<'_>> = parents.iter().collect();
        self.repository
            .commit(None, &signature, &signature, message, &tree, &parents)
            .unwrap()
    }

    pub fn find(&self, id: Oid) -> Commit<'_> {
        self.repository.find_commit(id).unwrap()
    }

    /// Its files with their text.
    pub fn files(&self, id: Oid) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        let tree = self.find(id).tree().unwrap();
        tree.walk(git2::TreeWalkMode::PreOrder, |directory, entry| {
            if entry.kind() == Some(git2::ObjectType::Blob) {
                let blob = self.repository.find_blob(entry.id()).unwrap();
                let text = String::from_utf8(blob.content().to_vec()).unwrap();
                files.insert(format!("{directory}{}", entry.name().unwrap()), text);
            }
            git2::TreeWalkResult::Ok
        })
        .unwrap();
        files
    }

    /// Paths of its files.
    pub fn names(&self, id: Oid) -> String {
        self.files(id).into_keys().collect::<Vec<_>>().join(" ")
    }

    pub fn parents(&self, id: Oid) -> Vec<Oid> {
        self.find(id).parent_ids().collect()
    }

    pub fn message(&self, id: Oid) -> String {
        self.find(id).message().unwrap().to_owned()
    }

    /// Commits from `tip` to `head`, each with one parent.
    pub fn above(&self, tip: Oid, head: Oid) -> Vec<Oid> {
        let mut line = Vec::new();
        let mut at = head;
        while at != tip {
            line.push(at);
            let parents = self.parents(at);
            assert_eq!(parents.len(), 1);
            at = parents[0];
        }
        line
    }
}
