//! Branches of projects. A branch is a reference from namespace, project and name to a commit; it outlives the Workflows that
//! moved it, and so do the bundles that it has pointed at:
//!
//! ```text
//! projects/NAMESPACE/PROJECT/blobs/HEX                               copy of a bundle
//! projects/NAMESPACE/PROJECT/branches/BRANCH/NUMBER.json             a move of the branch; the highest number is the tip
//! projects/NAMESPACE/PROJECT/branches/BRANCH/movers/UID/STAGE/NUMBER a stage was about to make that move
//! ```
//!
//! Creating NUMBER is the compare-and-swap: of all that saw the same tip, one creates the next number. A bundle is copied
//! before the move that names it, so that a tip can always be read; a copy that no move came to name does no harm. A stage
//! announces a move before it makes it: what a stage has moved is found without a look at every move of the branch.
//!
//! Nothing of this is deleted: moves stay as the record of what changed a branch and when, and their bundles with them.

use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, WriteMultipart};
use sha2::{Digest as _, Sha256};
use stagecraft_api::protocol::BranchEntry;
use stagecraft_api::{AttemptKey, Digest};

use super::{Blob, Store, StoreError, absent_as_none, blob, encode};

/// Parts that are being written while the next one is read: with their size this bounds the memory of a copy.
const PARTS: usize = 1;

/// Names a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    pub namespace: String,
    pub project: String,
    pub name: String,
}

/// What became of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Copied {
    /// The project has the bundle, since before or since now.
    Whole,
    /// The Workflow has no such blob.
    Absent,
    /// The Workflow's blob is not what its name says; nothing was kept of it.
    Different(Digest),
}

/// Whether a stage may move a branch.
#[derive(Clone, Debug, PartialEq)]
pub enum Turn {
    /// It may make this move.
    Next { number: u64, from: Option<String> },
    /// The same attempt has made this move before, to the same commit.
    Repeated(BranchEntry),
    /// The stage has moved the branch before.
    Spent(BranchEntry),
    /// The branch does not stand where it was expected to.
    Elsewhere(Option<BranchEntry>),
}

impl Store {
    /// The move that the branch stands at; none when the branch does not exist.
    pub async fn tip(&self, branch: &Branch) -> Result<Option<BranchEntry>, StoreError> {
        match self.numbers(&moves(branch)).await?.into_iter().max() {
            Some(number) => self.read(&entry(branch, number)).await,
            None => Ok(None),
        }
    }

    /// The latest move of the branch that any attempt of this attempt's stage has made.
    pub async fn move_of(
        &self,
        branch: &Branch,
        key: &AttemptKey,
    ) -> Result<Option<BranchEntry>, StoreError> {
        let mut numbers = self.numbers(&announcements(branch, key)).await?;
        numbers.sort_unstable_by(|one, other| other.cmp(one));
        for number in numbers {
            // Another stage may have been quicker, or the attempt has ended in between.
            let found: Option<BranchEntry> = self.read(&entry(branch, number)).await?;
            if let Some(found) = found
                && found.moved_by.workflow_uid == key.workflow_uid
                && found.moved_by.stage == key.stage
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Whether the attempt may move the branch from `expected` to `commit`. Nothing changes.
    pub async fn turn(
        &self,
        branch: &Branch,
        key: &AttemptKey,
        expected: Option<&str>,
        commit: &str,
    ) -> Result<Turn, StoreError> {
        // The tip first: a move of the same stage that is in it was announced before, and is found after.
        let tip = self.tip(branch).await?;
        if let Some(own) = self.move_of(branch, key).await? {
            let same = own.moved_by == *key && own.workspace.commit == commit;
            return Ok(if same {
                Turn::Repeated(own)
            } else {
                Turn::Spent(own)
            });
        }
        let from = tip.as_ref().map(|tip| tip.workspace.commit.clone());
        if from.as_deref() != expected {
            return Ok(Turn::Elsewhere(tip));
        }
        Ok(Turn::Next {
            number: tip.map_or(0, |tip| tip.number) + 1,
            from,
        })
    }

    /// Makes a move, unless another one has its number. Answers whether it did.
    pub async fn record(&self, branch: &Branch, made: &BranchEntry) -> Result<bool, StoreError> {
        let announcement = announcements(branch, &made.moved_by).join(made.number.to_string());
        self.create(&announcement, b"").await?;
        self.create(&entry(branch, made.number), &encode(made)?).await
    }

    /// A bundle that the project keeps.
    pub async fn bundle(&self, branch: &Branch, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        let found = absent_as_none(self.objects.get(&bundle(branch, digest)).await)?;
        Ok(found.map(|found| Blob {
            bytes: found.meta.size,
            content: found.into_stream(),
        }))
    }

    /// Copies a Workflow's blob to the project, whose copy stays when the Workflow's is purged. On any failure, and when the
    /// returned future is dropped, nothing stays.
    pub async fn keep_bundle(
        &self,
        branch: &Branch,
        uid: &str,
        digest: &Digest,
    ) -> Result<Copied, StoreError> {
        let target = bundle(branch, digest);
        // Nothing is ever there in part, nor under another name than its own.
        if absent_as_none(self.objects.head(&target).await)?.is_some() {
            return Ok(Copied::Whole);
        }
        let Some(source) = absent_as_none(self.objects.get(&blob(uid, digest)).await)? else {
            return Ok(Copied::Absent);
        };
        let upload = self.objects.put_multipart(&target).await?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, self.part_bytes);
        let mut hash = Sha256::new();
        let mut content = source.into_stream();
        let copied = async {
            while let Some(piece) = content.try_next().await? {
                hash.update(&piece);
                writer.wait_for_capacity(PARTS).await?;
                writer.put(piece);
            }
            Ok::<_, object_store::Error>(Digest::from_hash(hash))
        };
        let found = copied.await;
        if found.as_ref().is_ok_and(|found| found == digest) {
            writer.finish().await?;
            return Ok(Copied::Whole);
        }
        if let Err(error) = writer.abort().await {
            tracing::warn!(%error, "a copy could not be taken back");
        }
        Ok(Copied::Different(found?))
    }
}

fn project(branch: &Branch) -> Path {
    Path::from_iter(["projects", &branch.namespace, &branch.project])
}

fn bundle(branch: &Branch, digest: &Digest) -> Path {
    project(branch).join("blobs").join(digest.hex())
}

fn moves(branch: &Branch) -> Path {
    project(branch).join("branches").join(branch.name.as_str())
}

fn entry(branch: &Branch, number: u64) -> Path {
    moves(branch).join(format!("{number}.json"))
}

fn announcements(branch: &Branch, key: &AttemptKey) -> Path {
    let mover = moves(branch).join("movers").join(key.workflow_uid.as_str());
    mover.join(key.stage.as_str())
}
