//! Prepares the Pod's volumes for the agent. Doing it again after a death in the middle gives the same.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::status::WorkspaceRef;
use stagecraft_api::{Category, StructuredError};

use super::gateway::{Gateway, GatewayError};
use super::git::bundle::{self, BundleError, HashingWriter};
use super::git::checkout::{self, CheckoutError};
use super::journal::replace;
use super::layout::Layout;
use stagecraft_api::error::chain;

/// Why the agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error("the volumes of the Pod cannot be prepared")]
    Volumes(#[from] io::Error),
    #[error("the task cannot be written as JSON")]
    Task(#[from] serde_json::Error),
    #[error("the workspace cannot be fetched")]
    Fetch(#[from] GatewayError),
    #[error("the workspace that was fetched is not the one that was stored: {0}")]
    Different(String),
    #[error("the workspace cannot be unpacked")]
    Unpack(#[from] BundleError),
    #[error("the git directory cannot be made")]
    Git(#[from] git2::Error),
    #[error("the workspace cannot be checked out")]
    Checkout(#[from] CheckoutError),
    #[error("the work was interrupted")]
    Interrupted(#[from] tokio::task::JoinError),
}

impl PrepareError {
    pub fn structured(&self) -> StructuredError {
        let (code, category) = match self {
            Self::Volumes(_)
            | Self::Checkout(CheckoutError::File { .. })
            | Self::Fetch(GatewayError::File(_))
            | Self::Unpack(BundleError::File(_)) => ("PreparationFailed", Category::Resource),
            Self::Task(_) | Self::Interrupted(_) | Self::Git(_) => ("PreparationFailed", Category::Unknown),
            Self::Fetch(_) => ("WorkspaceUnavailable", Category::Dependency),
            Self::Different(_) | Self::Unpack(_) | Self::Checkout(_) => {
                ("WorkspaceCorrupt", Category::Dependency)
            }
        };
        StructuredError::new(code, category, chain(self))
    }
}

/// Makes everything that the agent finds, the launcher last: without it the agent's container cannot start.
pub async fn prepare(layout: &Layout, gateway: &Gateway, task: &TaskEnvelope) -> Result<(), PrepareError> {
    clear(layout)?;
    if let Some(workspace) = &task.workspace {
        check_out(layout, gateway, workspace).await?;
    }
    replace(&layout.task(), &serde_json::to_vec_pretty(task)?)?;
    install_launcher(layout)?;
    Ok(())
}

fn clear(layout: &Layout) -> io::Result<()> {
    for directory in [layout.workspace(), layout.git()] {
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    for directory in [layout.workspace(), layout.home()] {
        fs::create_dir_all(&directory)?;
        // The group is that of the volume, which agent and runner share; setgid keeps it so below.
        fs::set_permissions(&directory, Permissions::from_mode(0o2775))?;
    }
    if let Some(directory) = layout.launcher().parent() {
        fs::create_dir_all(directory)?;
    }
    Ok(())
}

async fn check_out(layout: &Layout, gateway: &Gateway, workspace: &WorkspaceRef) -> Result<(), PrepareError> {
    let file = layout.state().join("input.bundle");
    gateway
        .download(&workspace.bundle, workspace.bytes, &file)
        .await?;
    let layout = layout.clone();
    let workspace = workspace.clone();
    let span = tracing::Span::current();
    tokio::task::spawn_blocking(move || {
        span.in_scope(|| {
            verify(&workspace, &file)?;
            let repository = super::git::open(&layout.git())?;
            let commit = bundle::import(&repository, &file, &workspace.commit)?;
            fs::remove_file(&file)?;
            checkout::checkout(&repository, commit, &layout.open_workspace()?)?;
            tracing::info!(commit = workspace.commit, "the workspace is checked out");
            Ok(())
        })
    })
    .await?
}

fn verify(workspace: &WorkspaceRef, file: &Path) -> Result<(), PrepareError> {
    let mut hash = HashingWriter::new(io::sink());
    io::copy(&mut fs::File::open(file)?, &mut hash)?;
    let found = hash.finish()?;
    if found.bytes != workspace.bytes {
        return Err(PrepareError::Different(format!(
            "it has {} bytes, not {}",
            found.bytes, workspace.bytes
        )));
    }
    if found.digest != workspace.bundle {
        return Err(PrepareError::Different(format!(
            "its digest is {}, not {}",
            found.digest, workspace.bundle
        )));
    }
    Ok(())
}

fn install_launcher(layout: &Layout) -> io::Result<()> {
    let source = std::env::current_exe()?.with_file_name("stagecraft-launcher");
    let target = layout.launcher();
    let unfinished = target.with_extension("new");
    fs::copy(&source, &unfinished).map_err(|error| {
        let problem = format!("cannot copy {}: {error}", source.display());
        io::Error::new(error.kind(), problem)
    })?;
    fs::set_permissions(&unfinished, Permissions::from_mode(0o755))?;
    fs::rename(unfinished, target)
}
