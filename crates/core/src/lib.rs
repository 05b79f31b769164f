//! What dexsidecar decides, without doing any of it.

pub mod duration;
pub mod endpoint_url;
pub mod exchange;
pub mod failure;
pub mod secret;
pub mod time;
