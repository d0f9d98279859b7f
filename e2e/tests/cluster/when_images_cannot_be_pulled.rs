//! The nodes cannot pull what was deployed. The way from this machine's containerd to the registry is cut and mended; stage
//! Pods go on, since their images are on the node.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::json;
use stagecraft_api::Workflow;
use stagecraft_e2e::application::Application;
use stagecraft_e2e::scenario::app::{Sabotage, calculator_by, sabotaged};
use stagecraft_e2e::scenario::world::stage;
use stagecraft_e2e::scenario::{Isolation, ONLY_HERE, on_this_machine, scenario};

const ONE: Duration = Duration::from_mins(6);

/// How containerd finds the registry. It reads this for each pull. Ends with the way as it was.
struct Way {
    file: PathBuf,
    open: String,
}

impl Way {
    fn cut() -> anyhow::Result<Self> {
        let kubeconfig = std::env::var("KUBECONFIG").context("KUBECONFIG is not set")?;
        let cluster = Path::new(&kubeconfig)
            .parent()
            .context("the kubeconfig lies nowhere")?;
        let hosts = std::fs::read_dir(cluster.join("run/certs.d"))?
            .next()
            .context("containerd knows no registry")??;
        let file = hosts.path().join("hosts.toml");
        let open = std::fs::read_to_string(&file)?;
        // Port 9 discards everything; nothing listens there.
        let shut = open.replace(":5000", ":9");
        ensure!(shut != open, "{} names no port 5000", file.display());
        std::fs::write(&file, shut)?;
        Ok(Self { file, open })
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        if let Err(error) = std::fs::write(&self.file, &self.open) {
            println!("{} is not as it was: {error}", self.file.display());
        }
    }
}

#[test]
fn an_image_that_cannot_be_pulled_fails_the_deployment_with_the_reason() -> anyhow::Result<()> {
    assert!(on_this_machine(), "{ONLY_HERE}");
    scenario(Isolation::Alone, Duration::from_mins(14), async |world| {
        let untouched = Sabotage {
            after: "no stage",
            until: "deploy",
            files: json!({}),
            remove: json!([]),
        };
        sabotaged(world, "short", &untouched, &["validate", "e2e"]).await?;
        // Pulls every image that a stage needs.
        world.create::<Workflow>(calculator_by("before", "short")).await?;
        let before = world.completed("before", ONE).await?;
        let way = Way::cut()?;
        world.create::<Workflow>(calculator_by("after", "short")).await?;
        let after = world.failed("after", ONE).await?;
        drop(way);
        let failed = stage(&after, "deploy")?;
        let error = failed.error.as_ref().context("no error")?;
        assert_eq!(error.code, "ImagePullFailed", "{error:?}");
        ensure!(error.message.contains("registry"), "{error:?}");
        ensure!(error.suggested_action.is_some(), "{error:?}");
        let application = Application::of(&world.client, &before)
            .await?
            .context("nothing was deployed")?;
        application.visit().await?;
        Ok(())
    })
}
