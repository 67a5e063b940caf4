//! `process.oomScoreAdj`

use serde_json::json;

use crate::container::Container;

#[test]
fn it_is_the_configured_value() {
    let mut c = Container::new();
    c.args(&["cat", "/proc/self/oom_score_adj"]);
    c.config["process"]["oomScoreAdj"] = json!(500);
    c.run().ok().prints("500\n");
}

#[test]
fn unset_it_is_the_callers() {
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").expect("read");
    let mut c = Container::new();
    c.args(&["cat", "/proc/self/oom_score_adj"]);
    c.run().ok().prints(&own);
}
