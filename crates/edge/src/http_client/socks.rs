//! Connects through a SOCKS version 5 proxy (RFC 1928), with user and password if the variable has
//! them (RFC 1929). As in Go, the proxy resolves host names. No crate is used: those available hide
//! the reply code of the proxy, which names the cause of a failure.

use std::io;
use std::net::IpAddr;

use dexsidecar_core::endpoint_url::EndpointUrl;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use zeroize::Zeroizing;

use super::proxy::Credentials;
use super::tunnel::NoTunnel;
use super::{Stream, connect};

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
const NONE_ACCEPTABLE: u8 = 0xff;

/// Asks the proxy at the other end of `stream` for a connection to the host and port of `to`. On
/// success the stream is that connection.
///
/// # Errors
/// An I/O error, a response that is not SOCKS 5, or a refusal.
pub(super) async fn connect_through(
    stream: &mut dyn Stream,
    to: &EndpointUrl,
    user: Option<&Credentials>,
) -> Result<(), NoTunnel> {
    let broken = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => NoTunnel::unreachable("closed the connection"),
        _ => NoTunnel::unreachable(&connect::io_error_text(&error)),
    };
    let methods: &[u8] = match user {
        None => &[VERSION, 1, NO_AUTHENTICATION],
        Some(_) => &[VERSION, 2, NO_AUTHENTICATION, USER_AND_PASSWORD],
    };
    stream.write_all(methods).await.map_err(broken)?;
    let [version, method] = read(stream).await.map_err(broken)?;
    if version != VERSION {
        return Err(NoTunnel::protocol("does not speak SOCKS 5"));
    }
    match (method, user) {
        (NO_AUTHENTICATION, _) => {}
        (USER_AND_PASSWORD, Some(user)) => {
            stream.write_all(&authentication(user)?).await.map_err(broken)?;
            let [_, status] = read(stream).await.map_err(broken)?;
            if status != 0 {
                return Err(NoTunnel::wrong_credentials("rejected the user and password"));
            }
        }
        (NONE_ACCEPTABLE | USER_AND_PASSWORD, None) => {
            return Err(NoTunnel::credentials("user and password required"));
        }
        (NONE_ACCEPTABLE, _) => {
            return Err(NoTunnel::method("accepts neither user and password nor a client without them"));
        }
        (other, _) => {
            return Err(NoTunnel::method(&format!("requires the unsupported authentication method {other}")));
        }
    }
    stream.write_all(&request(to)?).await.map_err(broken)?;
    let [version, reply, _, kind] = read(stream).await.map_err(broken)?;
    if version != VERSION {
        return Err(NoTunnel::protocol("does not speak SOCKS 5"));
    }
    if reply != 0 {
        let text = format!("cannot connect to {}: {}", to.authority(), reply_text(reply));
        return Err(match reply {
            2 => NoTunnel::refused(&text),
            3..=6 => NoTunnel::beyond(&text),
            _ => NoTunnel::other(&text),
        });
    }
    // BND.ADDR and BND.PORT, the address from which the proxy connects. Not used.
    let length = match kind {
        1 => 4,
        4 => 16,
        3 => usize::from(stream.read_u8().await.map_err(broken)?),
        _ => return Err(NoTunnel::protocol("unknown address type in its reply")),
    };
    let mut rest = vec![0; length + 2];
    stream.read_exact(&mut rest).await.map_err(broken)?;
    Ok(())
}

async fn read<const N: usize>(stream: &mut dyn Stream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Encodes user and password (RFC 1929 §2).
fn authentication(Credentials { user, password }: &Credentials) -> Result<Zeroizing<Vec<u8>>, NoTunnel> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(3 + user.len() + password.len()));
    bytes.push(1);
    for part in [user, password] {
        let length = u8::try_from(part.len()).ok();
        bytes.push(
            length.ok_or_else(|| NoTunnel::wrong_credentials("user or password longer than 255 bytes"))?,
        );
        bytes.extend_from_slice(part);
    }
    Ok(bytes)
}

/// Encodes a CONNECT request (RFC 1928 §4, §5).
fn request(to: &EndpointUrl) -> Result<Vec<u8>, NoTunnel> {
    let mut bytes = vec![VERSION, 1, 0];
    match to.address() {
        Some(IpAddr::V4(ip)) => {
            bytes.push(1);
            bytes.extend(ip.octets());
        }
        Some(IpAddr::V6(ip)) => {
            bytes.push(4);
            bytes.extend(ip.octets());
        }
        None => {
            // With a final dot, if there is one, because the proxy resolves the name.
            let name = to.host();
            let length =
                u8::try_from(name.len()).map_err(|_| NoTunnel::refused("host name longer than 255 bytes"))?;
            bytes.extend([3, length]);
            bytes.extend(name.as_bytes());
        }
    }
    bytes.extend(to.port().to_be_bytes());
    Ok(bytes)
}

/// Describes a reply code (RFC 1928 §6).
const fn reply_text(reply: u8) -> &'static str {
    match reply {
        1 => "general failure",
        2 => "not allowed by its rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "time to live expired",
        7 => "command not supported",
        8 => "address type not supported",
        _ => "unknown reply code",
    }
}
