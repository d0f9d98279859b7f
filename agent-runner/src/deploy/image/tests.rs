use std::io::Read;

use serde_json::Value;

use super::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn recipe(directory: &Path) -> Recipe {
    let server = directory.join("server");
    fs::write(&server, "the server").unwrap();
    let distribution = directory.join("dist.tar");
    let mut builder = tar::Builder::new(File::create(&distribution).unwrap());
    for (path, content) in [("index.html", "start"), ("assets/app.js", "code")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, path, content.as_bytes())
            .unwrap();
    }
    builder.finish().unwrap();
    Recipe {
        server,
        distribution,
        project: "shop".into(),
        commit: Some(COMMIT.into()),
    }
}

fn blob(layout: &Path, digest: &Value) -> Vec<u8> {
    let digest: Digest = digest.as_str().unwrap().parse().unwrap();
    let content = fs::read(layout.join("blobs/sha256").join(digest.hex())).unwrap();
    assert_eq!(Digest::of(&content), digest);
    content
}

fn json(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap()
}

#[test]
fn the_same_input_gives_the_same_digest() {
    let directory = tempfile::tempdir().unwrap();
    let recipe = recipe(directory.path());
    let first = build(&recipe, &directory.path().join("one")).unwrap();
    for _ in 0..5 {
        // The types keep labels in maps whose order is another each time.
        assert_eq!(build(&recipe, &directory.path().join("other")).unwrap(), first);
    }
    let other = Recipe {
        commit: None,
        ..recipe
    };
    assert_ne!(
        build(&other, &directory.path().join("other")).unwrap().digest,
        first.digest
    );
}

#[test]
fn an_image_is_a_server_and_an_application() {
    let directory = tempfile::tempdir().unwrap();
    let recipe = recipe(directory.path());
    let layout = directory.path().join("image");
    let built = build(&recipe, &layout).unwrap();
    assert_eq!(built.files, 2);
    assert_eq!(
        json(&fs::read(layout.join("oci-layout")).unwrap())["imageLayoutVersion"],
        "1.0.0"
    );
    let index = json(&fs::read(layout.join("index.json")).unwrap());
    assert_eq!(index["manifests"][0]["digest"], built.digest.as_str());
    let manifest = json(&blob(&layout, &index["manifests"][0]["digest"]));
    assert_eq!(
        manifest["mediaType"],
        "application/vnd.oci.image.manifest.v1+json"
    );
    let config = json(&blob(&layout, &manifest["config"]["digest"]));
    assert_eq!(config["created"], CREATED);
    assert_eq!(config["os"], "linux");
    let run = &config["config"];
    assert_eq!(
        run["Entrypoint"],
        serde_json::json!(["/stagecraft-web", "--root", "/srv", "--listen", "0.0.0.0:8080"])
    );
    assert_eq!(run["User"], "65532:65532");
    assert_eq!(run["ExposedPorts"], serde_json::json!({"8080/tcp": {}}));
    assert_eq!(run["Labels"]["org.opencontainers.image.revision"], COMMIT);
    assert_eq!(run["Labels"]["org.opencontainers.image.title"], "shop");

    let expected: [&[&str]; 2] = [
        &["stagecraft-web"],
        &["srv/", "srv/assets/", "srv/assets/app.js", "srv/index.html"],
    ];
    for (number, paths) in expected.into_iter().enumerate() {
        let packed = blob(&layout, &manifest["layers"][number]["digest"]);
        assert_eq!(manifest["layers"][number]["size"], packed.len());
        let mut content = Vec::new();
        flate2::read::GzDecoder::new(packed.as_slice())
            .read_to_end(&mut content)
            .unwrap();
        assert_eq!(
            config["rootfs"]["diff_ids"][number],
            Digest::of(&content).as_str()
        );
        let mut archive = tar::Archive::new(content.as_slice());
        let found: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(found, paths);
    }
}

#[test]
fn a_build_that_lacks_something_says_what() {
    let directory = tempfile::tempdir().unwrap();
    let recipe = recipe(directory.path());
    fs::write(&recipe.distribution, [7; 1024]).unwrap();
    let error = build(&recipe, &directory.path().join("image")).unwrap_err();
    let error = error.structured();
    assert_eq!(
        (error.code.as_str(), error.retryable),
        ("DistributionInvalid", false)
    );
    fs::remove_file(&recipe.server).unwrap();
    let error = build(&recipe, &directory.path().join("image")).unwrap_err();
    assert!(error.structured().message.contains("server"), "{error}");
}
