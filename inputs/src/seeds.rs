//! Seeds of the fuzz targets.

use std::path::Path;

/// Name and bytes of every seed of a target.
pub fn all(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/seeds")
        .join(target);
    let entries =
        std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut seeds: Vec<(String, Vec<u8>)> = entries
        .map(|entry| {
            let path = entry.expect("a directory can be listed").path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, bytes)
        })
        .collect();
    seeds.sort();
    seeds
}

#[cfg(test)]
mod tests {
    use super::all;
    use crate::parse_everything;
    use crate::property::within_a_moment;
    use crate::scene::Scene;

    #[test]
    fn every_seed_of_the_fuzz_target_is_read_within_a_moment() {
        let seeds = all("everything");
        assert!(seeds.len() >= 10, "{}", seeds.len());
        for (name, bytes) in seeds {
            within_a_moment(|| parse_everything(&bytes))
                .unwrap_or_else(|problem| panic!("{name}: {problem}"));
            if name.starts_with("scene-") {
                serde_json::from_slice::<Scene>(&bytes)
                    .unwrap_or_else(|error| panic!("{name} is no scene any more: {error}"));
            }
        }
    }
}
