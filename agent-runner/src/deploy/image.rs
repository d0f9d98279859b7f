//! An image without any engine: an OCI layout with two layers, the web server and the application. The same input gives
//! the same digest, on every machine and at every time.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};
use oci_spec::OciSpecError;
use oci_spec::image::{
    ConfigBuilder, Descriptor, ImageConfigurationBuilder, ImageIndexBuilder, ImageManifestBuilder, MediaType,
    OciLayoutBuilder, Os, RootFsBuilder, Sha256Digest,
};
use olpc_cjson::CanonicalFormatter;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use stagecraft_api::error::chain;
use stagecraft_api::{Category, Digest, StructuredError};

use super::archive::{self, ArchiveError, Site};
use super::manifest::{APPLICATION_PORT, APPLICATION_USER};

/// Name of the server in the image.
const SERVER: &str = "stagecraft-web";
/// Directory of the application in the image.
const ROOT: &str = "srv";
/// When every image was made. A true time would make each one another.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("{path} cannot be read")]
    Input { path: PathBuf, source: io::Error },
    #[error("the built application is not taken")]
    Archive(#[from] ArchiveError),
    #[error("the image layout cannot be written")]
    Output(#[from] io::Error),
    #[error("the image cannot be described")]
    Describe(#[from] OciSpecError),
    #[error("the image cannot be described as JSON")]
    Encode(#[from] serde_json::Error),
}

impl ImageError {
    pub fn structured(&self) -> StructuredError {
        let message = chain(self);
        match self {
            Self::Archive(_) => StructuredError::new("DistributionInvalid", Category::Validation, message)
                .suggest("have the build of the stage before write plain files with an index.html into its archive dist.tar")
                .fatal(),
            Self::Input { .. } => StructuredError::new("ImageNotBuilt", Category::Configuration, message)
                .suggest("run the deployment agent in the release's agent-runner image: leave `image` of the Agent empty"),
            Self::Output(_) => StructuredError::new("ImageNotBuilt", Category::Resource, message),
            Self::Describe(_) | Self::Encode(_) => {
                StructuredError::new("ImageNotBuilt", Category::Unknown, message)
            }
        }
    }
}

/// What an image is made of.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The static web server.
    pub server: PathBuf,
    /// Archive of the built application.
    pub distribution: PathBuf,
    pub project: String,
    /// Commit that the application was built from.
    pub commit: Option<String>,
}

/// An image that was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// Digest of the manifest.
    pub digest: Digest,
    /// Bytes of all its parts.
    pub bytes: u64,
    /// Files of the application.
    pub files: usize,
}

/// Writes the image as an OCI layout into a directory, which is made anew.
pub fn build(recipe: &Recipe, directory: &Path) -> Result<Built, ImageError> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let blobs = Blobs(directory.join("blobs/sha256"));
    fs::create_dir_all(&blobs.0)?;
    let open = |path: &Path| {
        File::open(path).map_err(|source| ImageError::Input {
            path: path.to_owned(),
            source,
        })
    };
    let server = open(&recipe.server)?;
    let distribution = open(&recipe.distribution)?;
    let site = Site::survey(&distribution)?;
    let layers = [
        blobs.layer(|layer| archive::write_program(&server, SERVER, layer))?,
        blobs.layer(|layer| site.write_layer(&distribution, ROOT, layer))?,
    ];
    let configuration = blobs.document(MediaType::ImageConfig, &configuration(recipe, &layers)?)?;
    let manifest = ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .config(configuration.clone())
        .layers(
            layers
                .iter()
                .map(|layer| layer.descriptor.clone())
                .collect::<Vec<_>>(),
        )
        .build()?;
    let manifest = blobs.document(MediaType::ImageManifest, &manifest)?;
    let index = ImageIndexBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageIndex)
        .manifests(vec![manifest.clone()])
        .build()?;
    fs::write(directory.join("index.json"), canonical(&index)?)?;
    let layout = OciLayoutBuilder::default()
        .image_layout_version("1.0.0")
        .build()?;
    fs::write(directory.join("oci-layout"), canonical(&layout)?)?;
    let parts = layers.iter().map(|layer| &layer.descriptor);
    Ok(Built {
        bytes: parts
            .chain([&configuration, &manifest])
            .map(Descriptor::size)
            .sum(),
        digest: manifest
            .digest()
            .to_string()
            .parse()
            .map_err(|error: stagecraft_api::digest::DigestError| io::Error::other(error))?,
        files: site.files(),
    })
}

fn configuration(recipe: &Recipe, layers: &[Layer]) -> Result<impl Serialize + use<>, ImageError> {
    let mut labels = HashMap::from([(
        "org.opencontainers.image.title".to_owned(),
        recipe.project.clone(),
    )]);
    labels.extend(
        recipe
            .commit
            .iter()
            .map(|commit| ("org.opencontainers.image.revision".to_owned(), commit.clone())),
    );
    let config = ConfigBuilder::default()
        .entrypoint(vec![
            format!("/{SERVER}"),
            "--root".to_owned(),
            format!("/{ROOT}"),
            "--listen".to_owned(),
            format!("0.0.0.0:{APPLICATION_PORT}"),
        ])
        .user(format!("{APPLICATION_USER}:{APPLICATION_USER}"))
        .exposed_ports(vec![format!("{APPLICATION_PORT}/tcp")])
        .labels(labels)
        .build()?;
    let rootfs = RootFsBuilder::default()
        .typ("layers")
        .diff_ids(
            layers
                .iter()
                .map(|layer| layer.diff_id.to_string())
                .collect::<Vec<_>>(),
        )
        .build()?;
    // The architecture is that of this program, which was built with the server.
    Ok(ImageConfigurationBuilder::default()
        .created(CREATED)
        .os(Os::Linux)
        .config(config)
        .rootfs(rootfs)
        .build()?)
}

struct Layer {
    descriptor: Descriptor,
    /// Digest of the content before it was packed.
    diff_id: Digest,
}

/// The directory of blobs, named by their digests.
struct Blobs(PathBuf);

impl Blobs {
    fn layer(&self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<Layer, ImageError> {
        let unfinished = self.0.join("unfinished");
        let file = Hashed::new(BufWriter::new(File::create(&unfinished)?));
        // No name, no time, no operating system in the header.
        let packer = GzBuilder::new().mtime(0).operating_system(255);
        let mut content = Hashed::new(packer.write(file, Compression::default()));
        write(&mut content)?;
        let diff_id = content.digest();
        let mut file = content.inner.finish()?;
        file.flush()?;
        let (digest, bytes) = (file.digest(), file.bytes);
        fs::rename(&unfinished, self.0.join(digest.hex()))?;
        Ok(Layer {
            descriptor: descriptor(MediaType::ImageLayerGzip, &digest, bytes)?,
            diff_id,
        })
    }

    fn document(&self, media_type: MediaType, value: &impl Serialize) -> Result<Descriptor, ImageError> {
        let text = canonical(value)?;
        let digest = Digest::of(&text);
        fs::write(self.0.join(digest.hex()), &text)?;
        descriptor(media_type, &digest, text.len() as u64)
    }
}

fn descriptor(media_type: MediaType, digest: &Digest, bytes: u64) -> Result<Descriptor, ImageError> {
    let digest: Sha256Digest = digest.hex().parse()?;
    Ok(Descriptor::new(media_type, bytes, digest))
}

/// JSON in the one order of its fields: the types keep labels in an order of chance.
fn canonical(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, CanonicalFormatter::new());
    value.serialize(&mut serializer)?;
    Ok(text)
}

/// Hashes and counts what passes through.
struct Hashed<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W> Hashed<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            bytes: 0,
        }
    }

    fn digest(&self) -> Digest {
        Digest::from_hash(self.hash.clone())
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.hash.update(buffer.get(..count).unwrap_or_default());
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests;
