//! What kubectl and client-go ask an exec credential plugin: the variable `KUBERNETES_EXEC_INFO`
//! (KEP-541, client.authentication.k8s.io).

use dexsidecar_core::failure::printable;
use dexsidecar_core::secret::Secret;
use serde::Deserialize;

/// The API versions of an `ExecCredential` that this program prints. `v1` is the default.
pub const API_VERSIONS: [&str; 2] =
    ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];

/// What is used of the variable. A member of another type makes all of it invalid.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Info {
    kind: String,
    api_version: Option<String>,
}

/// The API version that the variable asks for. Without the variable, as in a shell, it is `v1`.
///
/// # Errors
/// A sentence: what is wrong with the variable, and what to do.
pub fn api_version(info: Option<&str>) -> Result<&'static str, String> {
    let Some(info) = info else { return Ok(API_VERSIONS[0]) };
    let parsed: Info = serde_json::from_str(info).unwrap_or_default();
    let Some(asked) = parsed.api_version.filter(|_| parsed.kind == "ExecCredential") else {
        return Err(
            "KUBERNETES_EXEC_INFO is not an ExecCredential: unset it, or call this from kubectl".to_owned()
        );
    };
    let known = API_VERSIONS.into_iter().find(|known| *known == asked);
    known.ok_or_else(|| {
        let asked = printable(asked.chars().take(80).collect());
        let [newest, _] = API_VERSIONS;
        format!("kubectl asks for apiVersion {asked}, which is unknown: set it to {newest} in the kubeconfig")
    })
}

/// The same `ExecCredential` in this API version.
#[must_use]
pub fn with_api_version(credential: &Secret, version: &str) -> Secret {
    Secret::new(credential.expose().replacen(API_VERSIONS[0], version, 1))
}

#[cfg(test)]
mod tests {
    use dexsidecar_core::output::{Format, StoredToken};

    use serde_json::Value;

    use super::*;

    #[test]
    fn the_credential_has_the_api_version_that_was_asked_for() {
        let stored = StoredToken::of(Secret::new("eyJh.eyJi.c2ln".to_owned()));
        let credential = Format::ExecCredential.render(&stored);
        for version in API_VERSIONS {
            let shown: Value = serde_json::from_str(with_api_version(&credential, version).expose()).unwrap();
            assert_eq!((&shown["apiVersion"], &shown["kind"]), (&version.into(), &"ExecCredential".into()));
            assert_eq!(shown["status"]["token"], "eyJh.eyJi.c2ln");
        }
    }

    #[test]
    fn the_api_version_is_the_one_that_kubectl_asks_for() {
        let info = |version: &str| {
            format!(r#"{{"kind":"ExecCredential","apiVersion":"{version}","spec":{{"interactive":false}}}}"#)
        };
        assert_eq!(api_version(None), Ok(API_VERSIONS[0]));
        for version in API_VERSIONS {
            assert_eq!(api_version(Some(&info(version))), Ok(version));
        }
        for version in ["client.authentication.k8s.io/v1alpha1", "v1", "", "client.authentication.k8s.io/v2"]
        {
            let expected = format!(
                "kubectl asks for apiVersion {version}, which is unknown: set it to \
                 client.authentication.k8s.io/v1 in the kubeconfig"
            );
            assert_eq!(api_version(Some(&info(version))), Err(expected));
        }
        let no_object =
            Err("KUBERNETES_EXEC_INFO is not an ExecCredential: unset it, or call this from kubectl"
                .to_owned());
        for info in [
            "",
            "{",
            "[]",
            "{}",
            r#"{"kind":"Pod","apiVersion":"v1"}"#,
            r#"{"kind":"ExecCredential"}"#,
            r#"{"kind":7,"apiVersion":"v1"}"#,
        ] {
            assert_eq!(api_version(Some(info)), no_object, "{info}");
        }
    }
}
