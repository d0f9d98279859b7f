//! Prepares the Pod's volumes for the agent. Doing it again after a death in the middle gives the same.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::status::WorkspaceRef;
use stagecraft_api::{Category, StructuredError};

use super::collect::Collected;
use super::gateway::{Gateway, GatewayError};
use super::git::bundle::{self, BundleError, HashingWriter};
use super::git::checkout::{self, CheckoutError};
use super::integrate::{self, Beginning, IntegrateError, Integration};
use super::journal::replace;
use super::layout::Layout;
use stagecraft_api::error::chain;

/// The command of the built-in agents.
const AGENT_PROGRAM: &str = "/stagecraft/bin/stagecraft-agent";

/// Why the agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error("the volumes of the Pod cannot be prepared")]
    Volumes(#[from] io::Error),
    #[error("the task cannot be written as JSON")]
    Task(#[from] serde_json::Error),
    #[error("the workspace cannot be fetched")]
    Fetch(#[from] GatewayError),
    #[error("earlier stages did not leave behind what this one takes as input: {0}")]
    MissingInputs(String),
    #[error("the name of the input {0:?} is not a path below a directory")]
    InputName(String),
    #[error("what was fetched is not what was stored: {0}")]
    Different(String),
    #[error("the workspace cannot be unpacked")]
    Unpack(#[from] BundleError),
    #[error("the git directory cannot be made")]
    Git(#[from] git2::Error),
    #[error("the workspace cannot be checked out")]
    Checkout(#[from] CheckoutError),
    #[error(transparent)]
    Integrate(#[from] IntegrateError),
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
            Self::MissingInputs(_) | Self::InputName(_) => {
                return StructuredError::new("InputMissing", Category::Configuration, chain(self))
                    .suggest("correct `inputs` of the stage in the template, or the agent that has to leave the artifact behind")
                    .fatal();
            }
            Self::Integrate(error) => return error.structured(),
            Self::Fetch(_) => ("WorkspaceUnavailable", Category::Dependency),
            Self::Different(_) | Self::Unpack(_) | Self::Checkout(_) => {
                ("WorkspaceCorrupt", Category::Dependency)
            }
        };
        StructuredError::new(code, category, chain(self))
    }
}

/// What came of it.
#[derive(Debug)]
pub enum Prepared {
    /// The agent may start.
    Ready {
        /// The merge that the workspace holds, where its task is to integrate.
        integration: Option<Integration>,
        /// The commit that a new version of the project follows upon.
        base: Option<String>,
    },
    /// The stage is at its end without an agent.
    Over(Box<Collected>),
}

/// Makes everything that the agent finds, the launcher last: without it the agent's container cannot start.
pub async fn prepare(
    layout: &Layout,
    gateway: &Gateway,
    task: &TaskEnvelope,
) -> Result<Prepared, PrepareError> {
    clear(layout)?;
    let (mut integration, mut base) = (None, None);
    if let Some(payload) = integrate::payload(task) {
        match integrate::begin(layout, gateway, task, payload).await? {
            Beginning::Merged(merged) => integration = Some(merged),
            Beginning::TakenOver(collected) => return Ok(Prepared::Over(collected)),
        }
    } else if let Some(workspace) = &task.workspace {
        check_out(layout, gateway, workspace).await?;
    } else {
        base = integrate::base(layout, gateway, task).await?;
    }
    fetch_inputs(layout, gateway, task).await?;
    replace(&layout.task(), &serde_json::to_vec_pretty(task)?)?;
    if task.command.first().map(Path::new) == Some(Path::new(AGENT_PROGRAM)) {
        install("stagecraft-agent", &layout.agent())?;
    }
    install("stagecraft-launcher", &layout.launcher())?;
    Ok(Prepared::Ready { integration, base })
}

fn clear(layout: &Layout) -> io::Result<()> {
    for directory in [
        layout.workspace(),
        layout.git(),
        layout.artifacts(),
        layout.inputs(),
    ] {
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    for directory in [
        layout.workspace(),
        layout.home(),
        layout.artifacts(),
        layout.inputs(),
    ] {
        fs::create_dir_all(&directory)?;
        // The group is that of the volume, which agent and runner share; setgid keeps it so below.
        fs::set_permissions(&directory, Permissions::from_mode(0o2775))?;
    }
    if let Some(directory) = layout.launcher().parent() {
        fs::create_dir_all(directory)?;
    }
    Ok(())
}

/// Downloads what earlier stages left for this one. The agent's container does not run yet.
async fn fetch_inputs(layout: &Layout, gateway: &Gateway, task: &TaskEnvelope) -> Result<(), PrepareError> {
    if !task.missing_inputs.is_empty() {
        return Err(PrepareError::MissingInputs(task.missing_inputs.join(", ")));
    }
    for input in &task.inputs {
        let relative = Path::new(&input.stage).join(&input.name);
        if !relative
            .components()
            .all(|component| matches!(component, Component::Normal(_)))
        {
            return Err(PrepareError::InputName(input.name.clone()));
        }
        let file = layout.inputs().join(relative);
        if let Some(directory) = file.parent() {
            fs::create_dir_all(directory)?;
        }
        gateway.download(&input.digest, input.bytes, &file).await?;
        let mut hash = HashingWriter::new(io::sink());
        io::copy(&mut fs::File::open(&file)?, &mut hash)?;
        if hash.finish()?.digest != input.digest {
            let name = format!("the digest of the input {} is not {}", input.name, input.digest);
            return Err(PrepareError::Different(name));
        }
    }
    Ok(())
}

async fn check_out(layout: &Layout, gateway: &Gateway, workspace: &WorkspaceRef) -> Result<(), PrepareError> {
    let file = fetch(layout, gateway, workspace).await?;
    let layout = layout.clone();
    let workspace = workspace.clone();
    let span = tracing::Span::current();
    tokio::task::spawn_blocking(move || {
        span.in_scope(|| {
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

/// Downloads the bundle of a workspace, and sees that it is the one that was stored.
pub(super) async fn fetch(
    layout: &Layout,
    gateway: &Gateway,
    workspace: &WorkspaceRef,
) -> Result<PathBuf, PrepareError> {
    let file = layout.state().join("input.bundle");
    gateway
        .download(&workspace.bundle, workspace.bytes, &file)
        .await?;
    verify(workspace, &file).await?;
    Ok(file)
}

/// Whether a file is the bundle of the workspace, whole.
pub(super) async fn verify(workspace: &WorkspaceRef, file: &Path) -> Result<(), PrepareError> {
    let (workspace, file) = (workspace.clone(), file.to_owned());
    tokio::task::spawn_blocking(move || compare(&workspace, &file)).await?
}

fn compare(workspace: &WorkspaceRef, file: &Path) -> Result<(), PrepareError> {
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

/// Puts a program that lies beside this one where the agent's container finds it.
fn install(program: &str, target: &Path) -> io::Result<()> {
    let source = std::env::current_exe()?.with_file_name(program);
    let unfinished = target.with_extension("new");
    fs::copy(&source, &unfinished).map_err(|error| {
        let problem = format!("cannot copy {}: {error}", source.display());
        io::Error::new(error.kind(), problem)
    })?;
    fs::set_permissions(&unfinished, Permissions::from_mode(0o755))?;
    fs::rename(unfinished, target)
}
