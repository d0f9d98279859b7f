//! Merges work with a branch: git objects in, git objects out. libgit2 alone does it, without a work tree: no hook, no filter
//! and no merge driver of a project is ever run. The same task, work and tip give the same commits.

use git2::{Commit, Index, MergeOptions, Oid, Repository, Sort};
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::error::{one_line, truncate};
use stagecraft_api::payload::{IntegrationPayload, MergeStrategy};

use crate::runner::git::{commit, shown};

/// Most paths that an error names.
const PATHS: usize = 10;
/// Most commits that the message of a squashed one lists.
const LISTED: usize = 100;
/// Longest subject in such a list, in bytes.
const SUBJECT_BYTES: usize = 100;

/// What a branch would stand at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merged {
    pub commit: Oid,
    /// How many commits of the work the branch did not have.
    pub commits: usize,
    /// The branch has all of the work: it need not move.
    pub already: bool,
}

/// Why nothing was merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    #[error("{0}")]
    Conflict(Conflict),
    #[error("the branch stands at {tip}, which the work {work} does not contain")]
    NotFastForward { tip: Oid, work: Oid },
    #[error("the commits cannot be merged")]
    Git(#[from] git2::Error),
}

/// Both sides changed the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The first paths, sorted; at most ten.
    pub paths: Vec<String>,
    pub total: usize,
    /// The commit that could not be taken over, of several.
    pub at: Option<String>,
    /// The sides have no commit in common.
    pub unrelated: bool,
}

impl std::fmt::Display for Conflict {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            paths,
            total,
            at,
            unrelated,
        } = self;
        let files = if *total == 1 { "file" } else { "files" };
        write!(
            formatter,
            "work and branch both changed {total} {files}: {}",
            paths.join(", ")
        )?;
        if *total > paths.len() {
            write!(formatter, " and {} more", total - paths.len())?;
        }
        if let Some(at) = at {
            write!(formatter, "; commit {at} could not be taken over")?;
        }
        if *unrelated {
            write!(formatter, "; the two have no commit in common")?;
        }
        Ok(())
    }
}

/// Brings `work` to a branch that stands at `tip`, or does not exist. No reference moves.
pub fn merge(
    repository: &Repository,
    task: &TaskEnvelope,
    payload: &IntegrationPayload,
    tip: Option<Oid>,
    work: Oid,
) -> Result<Merged, MergeError> {
    let missing = missing(repository, tip, work)?;
    let merging = Merging {
        repository,
        task,
        branch: &payload.target_branch,
        missing: &missing,
    };
    let commit = match (tip, payload.strategy) {
        (Some(tip), _) if missing.is_empty() => tip,
        (None, MergeStrategy::Squash) => merging.squash(None, work)?,
        (None, _) => work,
        (Some(tip), MergeStrategy::Merge) => merging.merge(tip, work)?,
        (Some(tip), MergeStrategy::Squash) => merging.squash(Some(tip), work)?,
        (Some(tip), MergeStrategy::Rebase) => merging.rebase(tip)?,
        (Some(tip), MergeStrategy::FastForward) if repository.graph_descendant_of(work, tip)? => work,
        (Some(tip), MergeStrategy::FastForward) => return Err(MergeError::NotFastForward { tip, work }),
    };
    let already = tip == Some(commit);
    Ok(Merged {
        commit,
        commits: if already { 0 } else { missing.len() },
        already,
    })
}

/// Commits of the work that the branch does not have, parents before children.
fn missing(repository: &Repository, tip: Option<Oid>, work: Oid) -> Result<Vec<Oid>, git2::Error> {
    let mut walk = repository.revwalk()?;
    walk.set_sorting(Sort::TOPOLOGICAL | Sort::REVERSE)?;
    walk.push(work)?;
    if let Some(tip) = tip {
        walk.hide(tip)?;
    }
    walk.collect()
}

struct Merging<'merge> {
    repository: &'merge Repository,
    task: &'merge TaskEnvelope,
    branch: &'merge str,
    missing: &'merge [Oid],
}

impl Merging<'_> {
    fn merge(&self, tip: Oid, work: Oid) -> Result<Oid, MergeError> {
        let (tip, work) = (self.commit(tip)?, self.commit(work)?);
        let tree = self.joined(&tip, &work)?;
        let message = format!("{}\n\n{}", self.subject(), commit::trailer(self.task));
        self.make(&message, tree, &[&tip, &work])
    }

    /// Upon the tip, all changes as one; without a tip, all files. A tip that has the changes stays what it is.
    fn squash(&self, tip: Option<Oid>, work: Oid) -> Result<Oid, MergeError> {
        let work = self.commit(work)?;
        let tip = tip.map(|tip| self.commit(tip)).transpose()?;
        let tree = match &tip {
            Some(tip) => self.joined(tip, &work)?,
            None => work.tree_id(),
        };
        if let Some(tip) = &tip
            && tip.tree_id() == tree
        {
            return Ok(tip.id());
        }
        let message = format!(
            "{}\n\nSquashed commits:\n{}\n{}",
            self.subject(),
            self.list()?,
            commit::trailer(self.task)
        );
        self.make(&message, tree, &tip.iter().collect::<Vec<_>>())
    }

    /// The commits of the work, a line each.
    fn list(&self) -> Result<String, git2::Error> {
        let line = |id: &Oid| Ok(format!("* {}\n", named(&self.commit(*id)?)));
        let listed: Result<String, git2::Error> = self.missing.iter().take(LISTED).map(line).collect();
        let rest = self.missing.len().saturating_sub(LISTED);
        let more = if rest > 0 {
            format!("* and {rest} more\n")
        } else {
            String::new()
        };
        Ok(listed? + &more)
    }

    /// Each commit again upon the tip, its author and message kept. Of a merge this is what it adds to what it joins, which
    /// comes in one line. A commit that changes nothing any more is left out.
    fn rebase(&self, tip: Oid) -> Result<Oid, MergeError> {
        let committer = commit::signature(self.task)?;
        let mut head = self.commit(tip)?;
        for id in self.missing {
            let commit = self.commit(*id)?;
            let parent = commit.parents().next();
            if parent.as_ref().map(Commit::id) == Some(head.id()) {
                head = commit;
                continue;
            }
            let tree = self.picked(&head, parent.as_ref(), &commit)?;
            if tree == head.tree_id() {
                continue;
            }
            let message = String::from_utf8_lossy(commit.message_raw_bytes()).into_owned();
            let tree = self.repository.find_tree(tree)?;
            let made =
                self.repository
                    .commit(None, &commit.author(), &committer, &message, &tree, &[&head])?;
            head = self.commit(made)?;
        }
        Ok(head.id())
    }

    /// The tree of both sides together.
    fn joined(&self, tip: &Commit<'_>, work: &Commit<'_>) -> Result<Oid, MergeError> {
        let index = self.repository.merge_commits(tip, work, Some(&options()))?;
        let unrelated = || match self.repository.merge_base(tip.id(), work.id()) {
            Ok(_) => Ok(false),
            Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(true),
            Err(error) => Err(error),
        };
        self.settle(index, |conflict| {
            Ok(Conflict {
                unrelated: unrelated()?,
                ..conflict
            })
        })
    }

    /// The tree of `head` with the changes of a commit.
    fn picked(
        &self,
        head: &Commit<'_>,
        parent: Option<&Commit<'_>>,
        commit: &Commit<'_>,
    ) -> Result<Oid, MergeError> {
        let before = match parent {
            Some(parent) => parent.tree()?,
            None => self
                .repository
                .find_tree(self.repository.treebuilder(None)?.write()?)?,
        };
        let index = self
            .repository
            .merge_trees(&before, &head.tree()?, &commit.tree()?, Some(&options()))?;
        self.settle(index, |conflict| {
            Ok(Conflict {
                at: Some(named(commit)),
                unrelated: parent.is_none(),
                ..conflict
            })
        })
    }

    fn settle(
        &self,
        mut index: Index,
        explain: impl FnOnce(Conflict) -> Result<Conflict, git2::Error>,
    ) -> Result<Oid, MergeError> {
        if index.has_conflicts() {
            return Err(MergeError::Conflict(explain(conflict(&index)?)?));
        }
        Ok(index.write_tree_to(self.repository)?)
    }

    fn make(&self, message: &str, tree: Oid, parents: &[&Commit<'_>]) -> Result<Oid, MergeError> {
        let signature = commit::signature(self.task)?;
        let tree = self.repository.find_tree(tree)?;
        Ok(self
            .repository
            .commit(None, &signature, &signature, message, &tree, parents)?)
    }

    fn subject(&self) -> String {
        let TaskEnvelope {
            project, workflow, ..
        } = self.task;
        format!(
            "Merge {} work of Workflow {} into {}",
            project.name, workflow.name, self.branch
        )
    }

    fn commit(&self, id: Oid) -> Result<Commit<'_>, git2::Error> {
        self.repository.find_commit(id)
    }
}

fn options() -> MergeOptions {
    let mut options = MergeOptions::new();
    // All conflicts are told, not the first alone.
    options.fail_on_conflict(false).skip_reuc(true);
    options
}

/// A commit in a list.
fn named(commit: &Commit<'_>) -> String {
    let id: String = commit.id().to_string().chars().take(12).collect();
    let subject = String::from_utf8_lossy(commit.summary_bytes().unwrap_or_default()).into_owned();
    format!("{id} {}", truncate(&one_line(&subject), SUBJECT_BYTES))
}

/// What cannot be merged.
fn conflict(index: &Index) -> Result<Conflict, git2::Error> {
    let mut paths = std::collections::BTreeSet::new();
    for conflict in index.conflicts()? {
        let conflict = conflict?;
        let side = conflict.our.or(conflict.their).or(conflict.ancestor);
        paths.extend(side.map(|side| side.path));
    }
    Ok(Conflict {
        paths: paths
            .iter()
            .take(PATHS)
            .map(|path| one_line(&shown(path)))
            .collect(),
        total: paths.len(),
        at: None,
        unrelated: false,
    })
}
