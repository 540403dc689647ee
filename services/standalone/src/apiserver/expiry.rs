//! What goes by itself with time: events, as in every cluster, and tokens.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::object;
use super::server::Server;
use super::store::{self, Change};

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(300);
/// How long an event is kept after it last happened; an hour, as Kubernetes keeps them.
const EVENTS: chrono::Duration = chrono::Duration::hours(1);

/// Runs until the server closes.
pub async fn run(server: Arc<Server>) {
    loop {
        tokio::select! {
            () = server.closing.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        server.tokens.sweep(&server.store).await;
        if let Err(error) = events(&server, object::now()).await {
            tracing::warn!(%error, "old events stay");
        }
    }
}

async fn events(server: &Server, now: DateTime<Utc>) -> Result<(), store::Error> {
    for event in server.store.list("core/events", None).1 {
        if !is_old(&event.value, now) {
            continue;
        }
        let key = event.key.clone();
        let gone = Change::Remove { key, last: None, version: event.version };
        match server.store.commit(gone).await {
            // It happened again meanwhile, or somebody else removed it.
            Ok(_) | Err(store::Error::Stale | store::Error::Missing) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// An event that says nothing of its time counts from its creation.
fn is_old(event: &Value, now: DateTime<Utc>) -> bool {
    let times = [
        &event["lastTimestamp"],
        &event["eventTime"],
        &event["series"]["lastObservedTime"],
        &event["metadata"]["creationTimestamp"],
    ];
    let last = times
        .into_iter()
        .filter_map(|time| DateTime::parse_from_rfc3339(time.as_str()?).ok())
        .max();
    last.is_some_and(|last| now - last.with_timezone(&Utc) > EVENTS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_is_kept_for_an_hour_after_it_last_happened() {
        let now = DateTime::parse_from_rfc3339("2026-01-01T12:00:00Z").unwrap().to_utc();
        let event = |created: &str, last: Value| json!({"metadata": {"creationTimestamp": created}, "lastTimestamp": last});
        assert!(is_old(&event("2026-01-01T10:00:00Z", Value::Null), now));
        assert!(!is_old(&event("2026-01-01T11:30:00Z", Value::Null), now));
        assert!(!is_old(&event("2026-01-01T10:00:00Z", json!("2026-01-01T11:59:00Z")), now));
        assert!(is_old(&event("2026-01-01T10:00:00Z", json!("2026-01-01T10:59:00Z")), now));
    }
}
