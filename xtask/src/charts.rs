//! The Helm charts as packages, without Helm: the same sources give the same bytes. A package can
//! be pushed to a registry, from which Helm reads it (<https://helm.sh/docs/topics/registries/>).

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{archive, root};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The directory of the charts.
const DIRECTORY: &str = "deploy/helm";

/// The charts: one for a cluster, and one for the charts of users.
pub(crate) const CHARTS: [&str; 2] = ["dexsidecar", "dexsidecar-lib"];

// The media types of a chart in a registry.
const CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
const CONTENT: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Writes the package of each chart into a directory. Every file in it has this time, in seconds
/// since 1970. Gives the paths of the packages.
pub(crate) fn write(out: &Path, time: u64) -> Result<Vec<PathBuf>, String> {
    write_by_way_of(&crate::target_directory().join("charts"), out, time)
}

/// The same with a directory in which the content of each package is put together.
fn write_by_way_of(work: &Path, out: &Path, time: u64) -> Result<Vec<PathBuf>, String> {
    CHARTS
        .iter()
        .map(|chart| {
            let file = out.join(package_name(chart));
            pack(chart, &work.join(chart), &file, time)
                .map_err(|error| format!("{}: {error}", file.display()))?;
            Ok(file)
        })
        .collect()
}

/// The name of the package of a chart, as Helm writes it.
pub(crate) fn package_name(chart: &str) -> String {
    format!("{chart}-{VERSION}.tgz")
}

fn pack(chart: &str, work: &Path, file: &Path, time: u64) -> io::Result<()> {
    let source = root().join(DIRECTORY).join(chart);
    let ignored = fs::read_to_string(source.join(".helmignore"))?;
    // Patterns are not supported: each line is the name of a directory and a slash.
    let ignored: Vec<&str> = ignored.lines().map(|line| line.trim_end_matches('/')).collect();
    if work.exists() {
        fs::remove_dir_all(work)?;
    }
    for path in archive::entries(&source)? {
        let name = path.strip_prefix(&source).map_err(io::Error::other)?;
        let first = name.components().next().map(|part| part.as_os_str().to_string_lossy().into_owned());
        // A link becomes the file that it leads to.
        if path.is_file() && !first.is_some_and(|first| ignored.contains(&first.as_str())) {
            let to = work.join(chart).join(name);
            to.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::copy(path, to)?;
        }
    }
    file.parent().map_or(Ok(()), fs::create_dir_all)?;
    let compressed = GzBuilder::new().write(File::create(file)?, Compression::best());
    archive::write(work, compressed, Some(time))?.finish().map(drop)
}

/// Writes a package as an OCI layout, which crane pushes, into an empty or missing directory.
pub(crate) fn layout(chart: &str, package: &Path, layout: &Path) -> Result<(), String> {
    let write = || -> io::Result<()> {
        let blobs = layout.join("blobs/sha256");
        fs::create_dir_all(&blobs)?;
        let blob = |media_type: &str, content: &[u8]| -> io::Result<Value> {
            let digest = Sha256::digest(content);
            let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            fs::write(blobs.join(&digest), content)?;
            Ok(json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": content.len()}))
        };
        let text = archive::text_in(package, &format!("{chart}/Chart.yaml"))?;
        let config = blob(CONFIG, metadata(&text)?.to_string().as_bytes())?;
        let content = blob(CONTENT, &fs::read(package)?)?;
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [content]});
        let manifest = blob(MANIFEST, manifest.to_string().as_bytes())?;
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
        fs::write(layout.join("index.json"), index.to_string())?;
        fs::write(layout.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string())
    };
    write().map_err(|error| format!("{}: {error}", layout.display()))
}

/// The keys of a Chart.yaml that has texts only, and one level of maps.
fn metadata(text: &str) -> io::Result<Value> {
    let mut metadata = json!({});
    let mut map = None;
    for line in text.lines() {
        let (key, value) = line
            .split_once(':')
            .ok_or_else(|| io::Error::other(format!("Chart.yaml: not a key with a text: {line}")))?;
        let value = value.trim().trim_matches('"');
        match (line.starts_with(' '), &map) {
            (true, Some(map)) => metadata[map][key.trim()] = value.into(),
            (false, _) if value.is_empty() => map = Some(key.to_owned()),
            _ => metadata[key] = value.into(),
        }
    }
    Ok(metadata)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::process::Command;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn two_packages_of_a_chart_are_equal_and_hold_what_helm_reads() {
        let directory = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| {
            let own = directory.path().join(name);
            write_by_way_of(&own.join("work"), &own.join("out"), 1_700_000_000).unwrap()
        });
        for (one, other) in one.iter().zip(&other) {
            assert_eq!(fs::read(one).unwrap(), fs::read(other).unwrap());
        }
        let mut archive = tar::Archive::new(GzDecoder::new(File::open(&one[0]).unwrap()));
        let mut found = std::collections::BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            assert!(!entry.header().entry_type().is_symlink());
            found.insert(entry.path().unwrap().display().to_string(), text);
        }
        assert_eq!(found["dexsidecar/files/alerts.yaml"], own("deploy/monitoring/alerts.yaml"));
        assert_eq!(found["dexsidecar/files/injection/mutating.yaml"], own("deploy/injection/mutating.yaml"));
        for name in ["Chart.yaml", "values.yaml", "values.schema.json", "templates/injection.yaml"] {
            assert!(found.contains_key(&format!("dexsidecar/{name}")), "{name}");
        }
        assert!(!found.keys().any(|name| name.contains("/tests/")), "{:?}", found.keys());
    }

    fn own(name: &str) -> String {
        fs::read_to_string(root().join(name)).unwrap()
    }

    #[test]
    fn the_metadata_in_a_registry_is_that_of_the_chart() {
        for chart in CHARTS {
            let metadata = metadata(&own(&format!("{DIRECTORY}/{chart}/Chart.yaml"))).unwrap();
            assert_eq!(metadata["name"], chart);
            assert_eq!((&metadata["version"], &metadata["apiVersion"]), (&VERSION.into(), &"v2".into()));
            assert_eq!(metadata["kubeVersion"], ">=1.29.0-0");
            assert_eq!(metadata["annotations"]["artifacthub.io/category"], "security");
        }
        assert!(metadata("maintainers:\n  - name\n").is_err());
    }

    #[test]
    fn a_layout_refers_to_each_of_its_blobs() {
        let directory = tempfile::tempdir().unwrap();
        let [work, out] = ["work", "out"].map(|name| directory.path().join(name));
        let package = write_by_way_of(&work, &out, 1).unwrap().remove(0);
        let own = directory.path().join("layout");
        layout(CHARTS[0], &package, &own).unwrap();
        let read = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap().replace(':', "/");
            let content = fs::read(own.join("blobs").join(digest)).unwrap();
            assert_eq!(descriptor["size"], content.len());
            content
        };
        let index: Value = serde_json::from_slice(&fs::read(own.join("index.json")).unwrap()).unwrap();
        let manifest: Value = serde_json::from_slice(&read(&index["manifests"][0])).unwrap();
        assert_eq!(manifest["config"]["mediaType"], CONFIG);
        let config: Value = serde_json::from_slice(&read(&manifest["config"])).unwrap();
        assert_eq!(config["name"], CHARTS[0]);
        assert_eq!(manifest["layers"][0]["mediaType"], CONTENT);
        assert_eq!(read(&manifest["layers"][0]), fs::read(package).unwrap());
    }
    #[test]
    #[ignore = "crane and Helm are built in the long form"]
    fn helm_pulls_from_a_registry_what_was_pushed() {
        use dexsidecar_fetch::counterparts::{CRANE, HELM};
        let (crane, helm) = (CRANE.built().unwrap(), HELM.built().unwrap());
        let registry = crate::image::Registry::start(&crane).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let own = |name: &str| directory.path().join(name);
        let packages = write_by_way_of(&own("work"), &own("out"), 1_700_000_000).unwrap();
        for (chart, package) in CHARTS.into_iter().zip(packages) {
            layout(chart, &package, &own(chart)).unwrap();
            let name = format!("{}/octo-org/dexsidecar/charts/{chart}", registry.address());
            let digest = crate::publish::push(&crane, &own(chart), &name).unwrap();
            let pulled = Command::new(&helm)
                .args(["pull", &format!("oci://{name}"), "--version", VERSION, "--plain-http"])
                .args(["--destination".as_ref(), own("").as_os_str()])
                .envs([("HELM_CACHE_HOME", own("cache")), ("HELM_CONFIG_HOME", own("config"))])
                .env("HELM_DATA_HOME", own("data"))
                .output()
                .unwrap();
            let said = [pulled.stdout, pulled.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert!(pulled.status.success() && said.contains(&digest), "{said}");
            let pulled = fs::read(own(&package_name(chart))).unwrap();
            assert!(pulled == fs::read(&package).unwrap(), "{chart} differs");
        }
    }
}
