//! Commits and bundles beside those of the real git.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use git2::{Oid, Repository};
use serde_json::json;
use stagecraft_agent_runner::runner::git::bundle::{self, BundleError};
use stagecraft_agent_runner::runner::git::changes;
use stagecraft_agent_runner::runner::git::checkout::checkout;
use stagecraft_agent_runner::runner::git::commit::{Outcome as Committed, commit};
use stagecraft_agent_runner::runner::git::snapshot::{self, Limits, Snapshot, SnapshotError};
use stagecraft_agent_runner::runner::git::{self as runner_git};
use stagecraft_api::limit;
use stagecraft_api::result::{AttemptResult, Outcome};
use stagecraft_api::status::Changes;
use tempfile::TempDir;

use crate::gateway::Gateway;

/// Runs the real git.
pub fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args([
            "-c",
            "user.name=Test",
            "-c",
            "user.email=test@example.org",
            "-c",
            "init.defaultBranch=main",
        ])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{arguments:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// Clones the workspace of a result.
pub fn clone_result(result: &AttemptResult, gateway: &Gateway) -> TempDir {
    let Outcome::Succeeded {
        workspace: Some(workspace),
        ..
    } = &result.outcome
    else {
        panic!("there is no workspace: {result:?}");
    };
    let directory = tempfile::tempdir().unwrap();
    let bundle = directory.path().join("bundle");
    let seen = gateway.seen();
    let bytes = &seen.blobs[&workspace.bundle];
    assert_eq!(bytes.len() as u64, workspace.bytes);
    fs::write(&bundle, bytes).unwrap();
    clone(&bundle)
}

fn clone(bundle: &Path) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    git(directory.path(), &["init", "--quiet", "."]);
    git(directory.path(), &["bundle", "verify", bundle.to_str().unwrap()]);
    fs::remove_dir_all(directory.path().join(".git")).unwrap();
    git(
        directory.path(),
        &["clone", "--quiet", bundle.to_str().unwrap(), "."],
    );
    git(directory.path(), &["fsck", "--strict"]);
    directory
}

pub struct Scene {
    pub root: TempDir,
    pub repository: Repository,
}

impl Scene {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("workspace")).unwrap();
        let repository = runner_git::open(&root.path().join("git")).unwrap();
        Self { root, repository }
    }

    pub fn path(&self, path: &str) -> std::path::PathBuf {
        self.root.path().join("workspace").join(path)
    }

    pub fn write(&self, path: &str, text: &str) {
        let file = self.path(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    pub fn open(&self) -> OwnedFd {
        fs::File::open(self.path("")).unwrap().into()
    }

    pub fn take(&self) -> Snapshot {
        snapshot::take(&self.repository, &self.open(), Limits::default()).unwrap()
    }

    pub fn commit(&self, parent: Option<Oid>) -> Oid {
        let task = crate::task::task(&json!({}));
        match commit(&self.repository, &task, parent, &self.take()).unwrap() {
            Committed::New(id) => id,
            other => panic!("{other:?}"),
        }
    }

    pub fn export(&self, commit: Oid) -> std::path::PathBuf {
        let file = self.root.path().join("out.bundle");
        let written = bundle::export(&self.repository, commit, &file).unwrap();
        let bytes = fs::read(&file).unwrap();
        assert_eq!(written.digest, stagecraft_api::Digest::of(&bytes));
        assert_eq!(written.bytes, bytes.len() as u64);
        file
    }
}

#[test]
fn changes_are_counted_as_git_counts_them() {
    let scene = Scene::new();
    scene.write("kept", "1\n2\n3\n");
    scene.write("gone", "1\n2\n");
    scene.write("picture", "\0\u{1}\u{2}");
    let base = scene.commit(None);
    scene.write("kept", "1\nzwei\n3\nvier\n");
    scene.write("new/file", &"line\n".repeat(40));
    scene.write("picture", "\0\u{3}");
    fs::remove_file(scene.path("gone")).unwrap();
    let commit = scene.commit(Some(base));

    let changes = changes::since(&scene.repository, Some(base), commit).unwrap();

    let range = [base.to_string(), commit.to_string()];
    let git = git(
        scene.repository.path(),
        &["diff", "--shortstat", &range[0], &range[1]],
    );
    let Changes {
        files,
        insertions,
        deletions,
        ..
    } = changes;
    let expected = format!(" {files} files changed, {insertions} insertions(+), {deletions} deletions(-)\n");
    assert_eq!(git, expected);
    assert_eq!(changes.base, Some(base.to_string()));
    assert_eq!(
        changes.stat,
        "A new/file +40 -0\nM kept +2 -1\nD gone +0 -2\nM picture +0 -0"
    );

    let all = changes::since(&scene.repository, None, commit).unwrap();
    assert_eq!((all.base, all.files, all.deletions), (None, 3, 0));

    for number in 0..200 {
        scene.write(&format!("many/{number:03}"), "x\n");
    }
    let many = changes::since(&scene.repository, Some(commit), scene.commit(Some(commit))).unwrap();
    assert_eq!((many.files, many.insertions), (200, 200));
    assert!(many.stat.len() <= limit::STAT_BYTES, "{}", many.stat);
    assert!(
        many.stat.starts_with("A many/000 +1 -0\n") && many.stat.ends_with('…'),
        "{}",
        many.stat
    );
}

#[test]
fn a_bundle_is_what_git_understands() {
    let scene = Scene::new();
    scene.write("deep/er/file", "text\n");
    scene.write("program", "#!/bin/sh\n");
    fs::set_permissions(scene.path("program"), fs::Permissions::from_mode(0o755)).unwrap();
    let first = scene.commit(None);
    scene.write("deep/other", "more\n");
    let second = scene.commit(Some(first));

    let clone = clone(&scene.export(second));

    assert_eq!(
        git(clone.path(), &["rev-list", "main"]),
        format!("{second}\n{first}\n")
    );
    let tree = git(
        clone.path(),
        &["ls-tree", "-r", "--format=%(objectmode) %(path)", "HEAD"],
    );
    assert_eq!(tree, "100644 deep/er/file\n100644 deep/other\n100755 program\n");
    assert_eq!(
        fs::read_to_string(clone.path().join("deep/er/file")).unwrap(),
        "text\n"
    );
}

#[test]
fn a_bundle_of_git_is_read_back() {
    let origin = tempfile::tempdir().unwrap();
    let path = origin.path();
    git(path, &["init", "--quiet", "."]);
    fs::create_dir(path.join("src")).unwrap();
    fs::write(path.join("src/a"), "a\n").unwrap();
    fs::write(path.join("run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(path.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("src/a", path.join("link")).unwrap();
    symlink("/etc/passwd", path.join("outside")).unwrap();
    git(path, &["add", "."]);
    git(path, &["commit", "--quiet", "-m", "one"]);
    fs::write(path.join("src/a"), "b\n".repeat(1000)).unwrap();
    git(path, &["commit", "--quiet", "-am", "two"]);
    git(path, &["bundle", "create", "--quiet", "all.bundle", "main"]);
    let head = git(path, &["rev-parse", "HEAD"]).trim().to_owned();

    let scene = Scene::new();
    let commit = bundle::import(&scene.repository, &path.join("all.bundle"), &head).unwrap();
    checkout(&scene.repository, commit, &scene.open()).unwrap();

    assert_eq!(
        fs::read_to_string(scene.path("src/a")).unwrap(),
        "b\n".repeat(1000)
    );
    assert_eq!(
        fs::read_link(scene.path("outside")).unwrap(),
        Path::new("/etc/passwd")
    );
    assert_eq!(
        fs::metadata(scene.path("run")).unwrap().permissions().mode() & 0o111,
        0o111 & !0o002
    );
    let tree = scene.repository.find_commit(commit).unwrap().tree_id();
    assert_eq!(scene.take().tree, tree, "what was checked out is what is taken");
}

#[test]
fn bundles_that_are_not_whole_are_refused() {
    let origin = tempfile::tempdir().unwrap();
    let path = origin.path();
    git(path, &["init", "--quiet", "."]);
    for name in ["one", "two"] {
        fs::write(path.join(name), name).unwrap();
        git(path, &["add", "."]);
        git(path, &["commit", "--quiet", "-m", name]);
    }
    git(
        path,
        &["bundle", "create", "--quiet", "thin.bundle", "HEAD^..main"],
    );
    git(path, &["bundle", "create", "--quiet", "all.bundle", "main"]);
    let head = git(path, &["rev-parse", "HEAD"]).trim().to_owned();
    let scene = Scene::new();
    let import = |name: &str, commit: &str| bundle::import(&scene.repository, &path.join(name), commit);

    assert!(matches!(
        import("thin.bundle", &head),
        Err(BundleError::Header(_))
    ));
    let whole = fs::read(path.join("all.bundle")).unwrap();
    fs::write(path.join("cut.bundle"), &whole[..whole.len() - 30]).unwrap();
    assert!(matches!(import("cut.bundle", &head), Err(BundleError::Pack(_))));
    let mut flipped = whole.clone();
    let middle = whole.len() - 40;
    flipped[middle] ^= 1;
    fs::write(path.join("flipped.bundle"), flipped).unwrap();
    assert!(matches!(
        import("flipped.bundle", &head),
        Err(BundleError::Pack(_))
    ));
    fs::write(path.join("text.bundle"), "hello\n").unwrap();
    assert!(matches!(
        import("text.bundle", &head),
        Err(BundleError::Header(_))
    ));
    let other = "0123456789012345678901234567890123456789";
    assert!(matches!(
        import("all.bundle", other),
        Err(BundleError::NoCommit { .. })
    ));
}

#[test]
fn the_walk_takes_files_and_links_and_nothing_else() {
    let scene = Scene::new();
    scene.write("plain", "1");
    scene.write("inner/.git/config", "evil");
    scene.write(".git/config", "evil");
    scene.write(".GIT", "evil");
    scene.write("git~1", "evil");
    scene.write(".gitattributes", "* filter=evil\n");
    scene.write("..odd", "fine");
    symlink("/etc/passwd", scene.path("link")).unwrap();
    symlink("../..", scene.path("up")).unwrap();
    symlink("/nonexistent", scene.path("dangling")).unwrap();
    fs::create_dir(scene.path("empty")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        scene.path("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(scene.path("socket")).unwrap();

    let snapshot = scene.take();

    let tree = scene.repository.find_tree(snapshot.tree).unwrap();
    let entries: Vec<(String, i32)> = tree
        .iter()
        .map(|entry| (entry.name().unwrap().to_owned(), entry.filemode()))
        .collect();
    let expected = [
        ("..odd", 0o100_644),
        (".gitattributes", 0o100_644),
        ("dangling", 0o120_000),
        ("link", 0o120_000),
        ("plain", 0o100_644),
        ("up", 0o120_000),
    ];
    assert_eq!(entries, expected.map(|(name, mode)| (name.to_owned(), mode)));
    let link = tree.get_name("link").unwrap();
    assert_eq!(
        scene.repository.find_blob(link.id()).unwrap().content(),
        b"/etc/passwd"
    );
    let mut skipped = snapshot.skipped;
    skipped.sort();
    assert_eq!(skipped, ["pipe", "socket"]);
    clone(&scene.export(scene.commit(None)));
}

#[test]
fn limits_name_the_path_and_the_limit() {
    let scene = Scene::new();
    scene.write("a/big", &"x".repeat(100));
    scene.write("b", "12345");
    let take = |limits| snapshot::take(&scene.repository, &scene.open(), limits).unwrap_err();
    let wide = Limits::default();

    let error = take(Limits {
        file_bytes: 99,
        ..wide
    });
    assert!(matches!(&error, SnapshotError::FileTooLarge { path, bytes: 100, limit: 99 } if path == "a/big"));
    assert!(
        error
            .to_string()
            .contains("\"a/big\" has 100 bytes, over the limit of 99"),
        "{error}"
    );
    assert!(matches!(
        take(Limits {
            total_bytes: 104,
            ..wide
        }),
        SnapshotError::TooLarge { limit: 104, .. }
    ));
    assert!(matches!(
        take(Limits { files: 1, ..wide }),
        SnapshotError::TooManyFiles { limit: 1, .. }
    ));
    assert!(matches!(take(Limits { depth: 0, ..wide }), SnapshotError::TooDeep { path, .. } if path == "a"));
    for name in ["c", "d", "e"] {
        fs::create_dir(scene.path(name)).unwrap();
    }
    assert!(matches!(
        take(Limits { files: 3, ..wide }),
        SnapshotError::TooManyDirectories { .. }
    ));
    assert!(
        snapshot::take(
            &scene.repository,
            &scene.open(),
            Limits {
                files: 4,
                file_bytes: 100,
                total_bytes: 105,
                depth: 1
            }
        )
        .is_ok()
    );
}

#[test]
fn the_same_work_gives_the_same_commit() {
    let commits: Vec<Oid> = (0..2)
        .map(|_| {
            let scene = Scene::new();
            for name in ["b", "a", "c/d"] {
                scene.write(name, name);
            }
            scene.commit(None)
        })
        .collect();
    assert_eq!(commits[0], commits[1]);
}

#[test]
fn no_change_makes_no_commit() {
    let scene = Scene::new();
    let task = crate::task::task(&json!({}));
    let nothing = commit(&scene.repository, &task, None, &scene.take()).unwrap();
    assert_eq!(nothing, Committed::Nothing);
    scene.write("a", "a");
    let first = scene.commit(None);
    let same = commit(&scene.repository, &task, Some(first), &scene.take()).unwrap();
    assert_eq!(same, Committed::Unchanged);
    fs::remove_file(scene.path("a")).unwrap();
    assert!(matches!(
        commit(&scene.repository, &task, Some(first), &scene.take()),
        Ok(Committed::New(_))
    ));
}
