//! `pods/<name>/exec`: a command in a running container, over a WebSocket, as kube-rs and kubectl (from 1.31 by itself)
//! speak it. Terminals and the older SPDY are refused by name. [`session`] is what happens once both sides are connected.

mod session;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::logs;
use super::server::Call;
use super::service::{Body, full};
use super::status::Failure;
use super::verbs::update::live;

/// Subprotocols, the preferred one first. The newer one can also close the input.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// Agrees on the WebSocket; the command runs as soon as it is there, and ends with it.
///
/// # Errors
/// When the container does not run, the request is for something else than a WebSocket, or asks for a terminal.
pub(super) fn start(call: &Call<'_>, head: &Parts) -> Result<Response<Body>, Failure> {
    let params = &call.params;
    let pod = live(call)?;
    if params.command.is_empty() {
        return Err(Failure::bad_request(
            "you must specify at least one command for the container",
        ));
    }
    if params.tty {
        let message = "no terminal can be had here: run the command without one (kubectl exec \
                       without -t)";
        return Err(Failure::bad_request(message));
    }
    let name = logs::container(call, &pod.value)?;
    let uid = pod.value["metadata"]["uid"].as_str().unwrap_or_default();
    let found = call.server.containers.find(uid, &name);
    let container = found.ok_or_else(|| {
        let pod = call.name();
        Failure::bad_request(format!("container {name:?} of pod {pod:?} is not running"))
    })?;
    let (key, protocol) = agree(&head.headers)?;
    let upgrade = head.extensions.get::<OnUpgrade>().cloned().ok_or_else(|| {
        Failure::bad_request("a WebSocket needs a connection of its own: ask with HTTP/1.1")
    })?;
    let asked = session::Asked {
        command: params.command.clone(),
        stdin: params.stdin,
        stdout: params.stdout,
        stderr: params.stderr,
    };
    let stop = call.stop.clone();
    call.server.sessions.spawn(session::run(upgrade, container, asked, stop));

    let mut response = Response::new(full(bytes::Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, key);
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    Ok(response)
}

/// The answer to the client's key, and the subprotocol.
fn agree(headers: &HeaderMap) -> Result<(HeaderValue, &'static str), Failure> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !text(header::UPGRADE).eq_ignore_ascii_case("websocket") {
        let message = "exec is served over WebSockets only, and not over SPDY: use kubectl 1.31 \
                       or later, or 1.29 or 1.30 with KUBECTL_REMOTE_COMMAND_WEBSOCKETS=true";
        return Err(Failure::bad_request(message));
    }
    let offered: Vec<&str> = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let protocol = PROTOCOLS.into_iter().find(|known| offered.contains(known)).ok_or_else(|| {
        Failure::bad_request(format!(
            "unable to upgrade: unable to negotiate protocol: client supports {offered:?}, server \
             accepts {PROTOCOLS:?}"
        ))
    })?;
    let accept = derive_accept_key(text(header::SEC_WEBSOCKET_KEY).as_bytes());
    let accept = HeaderValue::from_str(&accept).map_err(Failure::internal)?;
    Ok((accept, protocol))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(upgrade: &str, protocols: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::UPGRADE, upgrade.parse().unwrap());
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocols.parse().unwrap());
        headers.insert(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==".parse().unwrap());
        headers
    }

    #[test]
    fn both_sides_agree_on_the_newest_protocol_or_not_at_all() {
        let (accept, protocol) =
            agree(&headers("WebSocket", "v4.channel.k8s.io, v5.channel.k8s.io")).unwrap();
        // The example of RFC 6455, section 1.3.
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(protocol, "v5.channel.k8s.io");
        assert_eq!(agree(&headers("websocket", "v4.channel.k8s.io")).unwrap().1, PROTOCOLS[1]);
        let other = agree(&headers("websocket", "channel.k8s.io")).unwrap_err();
        assert!(other.to_string().contains("[\"channel.k8s.io\"]"), "{other}");
        let spdy = agree(&headers("SPDY/3.1", "v4.channel.k8s.io")).unwrap_err();
        assert!(spdy.code == 400 && spdy.to_string().contains("not over SPDY"), "{spdy}");
    }
}
