//! What dexsidecar decides, without doing any of it.

pub mod claims;
pub mod config;
pub mod diagnosis;
pub mod duration;
pub mod endpoint_url;
pub mod event;

pub mod exchange;
pub mod failure;
pub mod key_check;
pub mod keys;
mod member;
pub mod refresher;
pub mod response;
pub mod schedule;
pub mod secret;
pub mod settings;
pub mod text_file;
pub mod time;
pub mod token;
pub mod verdict;
