//! Hand-offs, from the gateway's acceptance of a result to the API server's acceptance of the next Job. The operator's
//! histogram is too coarse for percentiles; its log has each of them.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Api, ListParams, LogParams};
use kube::{Client, ResourceExt as _};
use serde_json::Value;
use stagecraft_api::Moment;

use super::{Sample, verdict};
use crate::scenario::release::Release;

/// Targets in milliseconds.
const MEDIAN: f64 = 25.0;
const HIGH: f64 = 100.0;

/// Every hand-off that the operator logged since then, in milliseconds.
pub async fn since(client: &Client, release: &Release, since: Moment) -> anyhow::Result<Sample> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &release.namespace);
    let mut values = Vec::new();
    for pod in pods
        .list(&ListParams::default().labels(&release.operator.selector))
        .await?
    {
        let parameters = LogParams {
            since_time: Some(Time(since.timestamp()).0),
            ..LogParams::default()
        };
        let log = pods.logs(&pod.name_any(), &parameters).await?;
        values.extend(log.lines().filter_map(hand_off));
    }
    Ok(Sample::new(values))
}

/// The milliseconds of a line that tells of a hand-off, in either log format.
fn hand_off(line: &str) -> Option<f64> {
    if let Ok(entry) = serde_json::from_str::<Value>(line) {
        return entry.get("hand_off_millis")?.as_f64();
    }
    let (_, rest) = line.split_once("hand_off_millis")?;
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    let start = rest.find(|character: char| character.is_ascii_digit())?;
    digits(rest.get(start..)?).parse().ok()
}

pub fn report(what: &str, sample: &Sample) -> String {
    if sample.count() == 0 {
        return format!("Hand-off, {what}: the operator logged none\n");
    }
    let (median, high) = (sample.percentile(50), sample.percentile(99));
    format!(
        "Hand-off, {what}: {} measured\n  {}\n  p50 {median:.0} ms (target: at most {MEDIAN:.0}): {}\n  p99 {high:.0} ms \
         (target: at most {HIGH:.0}): {}\n",
        sample.count(),
        sample.spread("ms"),
        verdict(median <= MEDIAN),
        verdict(high <= HIGH)
    )
}

#[cfg(test)]
mod tests {
    use super::hand_off;

    #[test]
    fn both_log_formats_are_read() {
        assert_eq!(
            hand_off(r#"{"message":"handed off","hand_off_millis":17}"#),
            Some(17.0)
        );
        assert_eq!(
            hand_off("INFO handed off stage=\"e2e\" hand_off_millis=42 attempt=1"),
            Some(42.0)
        );
        assert_eq!(hand_off("INFO job created"), None);
    }
}
