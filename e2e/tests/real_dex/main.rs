//! Tests against a real Dex, with a fake API server or a real Kubernetes control plane as the
//! issuer.

mod clients;
mod control_plane;
mod dex_behaviour;
mod dex_changes;
mod dex_versions;
mod errors_of_dex;
mod how_to_see;
mod issuer_alias;
mod original_manifest;
mod outages;
mod proxies;
mod short_tokens;
mod subject_token;
