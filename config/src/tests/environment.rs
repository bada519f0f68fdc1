//! Variables: names, types, mistakes.

use super::load_environment;
use crate::{Network, Settings, variable_name};

fn complaint(environment: &[(&str, &str)]) -> String {
    load_environment(environment).expect_err("the environment is wrong").to_string()
}

#[test]
fn letter_case_after_the_prefix_does_not_matter() {
    for name in ["LONGSHORE_LIMITS__PAGE_SIZE", "LONGSHORE_limits__page_size", "LONGSHORE_Limits__Page_Size"] {
        assert_eq!(load_environment(&[(name, "500")]).unwrap().settings.limits.page_size, 500);
    }
}

#[test]
fn text_is_taken_as_it_stands() {
    let environment = [("LONGSHORE_AUTH__REALM", "Dock: #1, [east]"), ("LONGSHORE_LOG__ACCESS", "false")];
    let settings = load_environment(&environment).unwrap().settings;
    assert_eq!(settings.auth.realm, "Dock: #1, [east]");
    assert!(!settings.log.access);
}

#[test]
fn commas_separate_what_a_list_holds() {
    let proxies =
        |text: &str| load_environment(&[("LONGSHORE_HTTP__PROXIES", text)]).map(|loaded| loaded.settings.http.proxies);
    let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Network>>();
    assert_eq!(proxies("10.0.0.0/8").unwrap(), networks(&["10.0.0.0/8"]));
    assert_eq!(
        proxies("10.0.0.0/8, fd00::/8,192.0.2.1").unwrap(),
        networks(&["10.0.0.0/8", "fd00::/8", "192.0.2.1/32"])
    );
    for nothing in ["", "null", "~"] {
        assert_eq!(proxies(nothing).unwrap(), []);
    }
    assert_eq!(
        proxies("10.0.0.0/8,").unwrap_err().to_string(),
        "environment LONGSHORE_HTTP__PROXIES: http.proxies: \"\" is not a network: \
         write an address and a prefix, such as 10.0.0.0/8 or 2001:db8::/32, for example [\"10.0.0.0/8\"]"
    );
}

#[test]
fn what_is_not_ours_is_ignored() {
    let environment = [
        ("PATH", "/bin"),
        ("longshore_http__address", "nonsense"),
        ("LONGSHORE_CONFIG", "/etc/longshore.yaml"),
        // A Kubernetes Service named longshore.
        ("LONGSHORE_SERVICE_HOST", "10.0.0.7"),
        ("LONGSHORE_SERVICE_PORT", "5000"),
        ("LONGSHORE_SERVICE_PORT_HTTP", "5000"),
        ("LONGSHORE_PORT", "tcp://10.0.0.7:5000"),
        ("LONGSHORE_PORT_5000_TCP", "tcp://10.0.0.7:5000"),
        ("LONGSHORE_PORT_5000_TCP_PROTO", "tcp"),
        ("LONGSHORE_PORT_5000_TCP_PORT", "5000"),
        ("LONGSHORE_PORT_5000_TCP_ADDR", "10.0.0.7"),
        ("LONGSHORE_METRICS_SERVICE_HOST", "10.0.0.8"),
    ];
    assert_eq!(load_environment(&environment).unwrap().settings, Settings::default());
}

#[test]
fn unknown_variables_are_told() {
    let cases = [
        (
            "LONGSHORE_HTTP__ADRESS",
            "environment LONGSHORE_HTTP__ADRESS: unknown variable: did you mean LONGSHORE_HTTP__ADDRESS?",
        ),
        (
            "LONGSHORE_HTTP_ADDRESS",
            "environment LONGSHORE_HTTP_ADDRESS: unknown variable: did you mean LONGSHORE_HTTP__ADDRESS?",
        ),
        (
            "LONGSHORE_DATABASE_URL_FILE",
            "environment LONGSHORE_DATABASE_URL_FILE: unknown variable: did you mean LONGSHORE_DATABASE__URL_FILE?",
        ),
        (
            "LONGSHORE_PORT",
            "environment LONGSHORE_PORT: unknown variable: \
             variables are named LONGSHORE_SECTION__KEY, for example LONGSHORE_HTTP__ADDRESS",
        ),
        (
            "LONGSHORE_HTTP",
            "environment LONGSHORE_HTTP: http is a section: set one of its keys (address, client_header, drain_delay, \
             drain_timeout, header_timeout, idle_timeout, max_connections, proxies, tls)",
        ),
    ];
    for (name, expected) in cases {
        assert_eq!(complaint(&[(name, "5000")]), expected);
    }
}

#[test]
fn wrong_values_name_the_variable_and_the_key() {
    assert_eq!(
        complaint(&[("LONGSHORE_GC__INTERVAL", "60")]),
        "environment LONGSHORE_GC__INTERVAL: gc.interval: \"60\" has no unit: add d, h, m, s or ms, for example \"1m\""
    );
}

#[test]
fn two_variables_for_one_key_are_refused() {
    assert_eq!(
        complaint(&[("LONGSHORE_LOG__LEVEL", "info"), ("LONGSHORE_log__level", "debug")]),
        "environment LONGSHORE_log__level: log.level is already set by LONGSHORE_LOG__LEVEL: keep one of the two"
    );
}

#[test]
fn every_key_has_a_variable() {
    assert_eq!(variable_name("http.tls.key"), "LONGSHORE_HTTP__TLS__KEY");
    for key in super::leaf_names() {
        let error = load_environment(&[(&variable_name(&key), "\u{1}")]);
        let message = error.map_or_else(|error| error.to_string(), |_| String::new());
        assert!(!message.contains("unknown variable"), "{message}");
    }
}
