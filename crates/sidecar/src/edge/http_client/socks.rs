//! A connection through a SOCKS version 5 proxy (RFC 1928), with user and password if the variable has them (RFC 1929).
//! Names are sent as they are and resolved by the proxy, as Go does it. Written here, since the crates for this hide the proxy's
//! reply code, which names the cause of a failure.

use std::io;
use std::net::IpAddr;

use dexsidecar_core::endpoint_url::EndpointUrl;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use zeroize::Zeroizing;

use super::proxy::Credentials;
use super::{Stream, connect};

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
const NONE_ACCEPTABLE: u8 = 0xff;

/// Asks the proxy at the other end of `stream` for a connection to this host and port. Afterwards the stream is that
/// connection.
///
/// # Errors
/// What the proxy said, in words.
pub(super) async fn connect_through(
    stream: &mut dyn Stream,
    to: &EndpointUrl,
    user: Option<&Credentials>,
) -> Result<(), String> {
    let broken = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => "it hung up".to_owned(),
        _ => connect::words(&error),
    };
    let methods: &[u8] = match user {
        None => &[VERSION, 1, NO_AUTHENTICATION],
        Some(_) => &[VERSION, 2, NO_AUTHENTICATION, USER_AND_PASSWORD],
    };
    stream.write_all(methods).await.map_err(broken)?;
    let [version, method] = read(stream).await.map_err(broken)?;
    if version != VERSION {
        return Err("it does not speak SOCKS version 5".to_owned());
    }
    match (method, user) {
        (NO_AUTHENTICATION, _) => {}
        (USER_AND_PASSWORD, Some(user)) => {
            stream.write_all(&sub_negotiation(user)?).await.map_err(broken)?;
            let [_, status] = read(stream).await.map_err(broken)?;
            if status != 0 {
                return Err("it does not accept the user and password".to_owned());
            }
        }
        (NONE_ACCEPTABLE | USER_AND_PASSWORD, None) => {
            return Err("it wants a user and a password".to_owned());
        }
        (NONE_ACCEPTABLE, _) => {
            return Err("it accepts neither a user and password nor a client without".to_owned());
        }
        (other, _) => return Err(format!("it wants the unsupported authentication method {other}")),
    }
    stream.write_all(&request(to)?).await.map_err(broken)?;
    let [version, reply, _, kind] = read(stream).await.map_err(broken)?;
    if version != VERSION {
        return Err("it does not speak SOCKS version 5".to_owned());
    }
    if reply != 0 {
        return Err(format!("it cannot connect to {}: {}", to.authority(), words(reply)));
    }
    // The address that it connected from.
    let length = match kind {
        1 => 4,
        4 => 16,
        3 => usize::from(stream.read_u8().await.map_err(broken)?),
        _ => return Err("its reply has an unknown kind of address".to_owned()),
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

/// RFC 1929 §2.
fn sub_negotiation(Credentials { user, password }: &Credentials) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(3 + user.len() + password.len()));
    bytes.push(1);
    for part in [user, password] {
        let length = u8::try_from(part.len()).ok();
        bytes.push(length.ok_or("its user or password is longer than 255 bytes")?);
        bytes.extend_from_slice(part);
    }
    Ok(bytes)
}

/// CONNECT (RFC 1928 §4, §5).
fn request(to: &EndpointUrl) -> Result<Vec<u8>, String> {
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
            // With its final dot: the proxy is the resolver.
            let name = to.host();
            let length = u8::try_from(name.len()).map_err(|_| "the host's name is longer than 255 bytes")?;
            bytes.extend([3, length]);
            bytes.extend(name.as_bytes());
        }
    }
    bytes.extend(to.port().to_be_bytes());
    Ok(bytes)
}

/// RFC 1928 §6.
const fn words(reply: u8) -> &'static str {
    match reply {
        1 => "general failure",
        2 => "its rules do not allow it",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "time to live expired",
        7 => "command not supported",
        8 => "kind of address not supported",
        _ => "unknown reply code",
    }
}
