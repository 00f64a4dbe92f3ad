//! `/mount-bucket` and `/unmount-bucket`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::Value;

use super::call::Call;
use super::envelope::Data;
use crate::body::Fields;
use hutch_core::buckets::is_bucket_name;
use hutch_core::s3::{AllowedEndpoints, S3Credentials};
use hutch_service::{BucketError, Mount, Service};

/// `POST /mount-bucket`. The response is sent after the bucket has been listed through
/// the mount.
pub async fn mount(State(service): State<Arc<Service>>, call: Call) -> Response {
    let Some(bucket) = call.body.name("bucket") else {
        return call.data().fail(400, "Missing bucket");
    };
    let Some(path) = call.body.name("mountPath") else {
        return call.data().fail(400, "Missing mountPath");
    };
    let options = call.body.object("options");
    if options.is_empty() {
        return call.data().fail(400, "Missing options");
    }
    let Some(endpoint) = options.name("endpoint") else {
        let text = "options.endpoint is required for /mount-bucket";
        return call
            .data()
            .with("error", text)
            .fail(400, "Missing endpoint");
    };
    let data = || {
        session_data(&call)
            .with("bucket", bucket)
            .with("mountPath", path)
            .with("mounted", false)
    };
    let mount = match parse(bucket, path, endpoint, &options) {
        Ok(mount) => mount,
        Err(text) => return data().fail(400, &text),
    };
    let target = service.acquirer.tenant(&call.id);
    let session = call.session();
    match service.buckets.mount(target, session, mount).await {
        Ok(()) => data()
            .with("mounted", true)
            .with("options", without_credentials(&options))
            .ok(),
        Err(error) => failed(data(), &error),
    }
}

/// `DELETE` and `POST /unmount-bucket`. The response is sent after everything written to
/// the mount is in the bucket.
pub async fn unmount(State(service): State<Arc<Service>>, call: Call) -> Response {
    let Some(path) = call.name("mountPath").or_else(|| call.name("path")) else {
        return call.data().fail(400, "Missing mountPath");
    };
    let data = || session_data(&call).with("mountPath", path);
    let target = service.acquirer.tenant(&call.id);
    let path_in_spec = without_trailing_slash(path);
    match service.buckets.unmount(target, &path_in_spec).await {
        Ok(()) => data().with("unmounted", true).ok(),
        Err(error @ BucketError::NotFound(_)) => data()
            .with("unmounted", false)
            .with("error", error.to_string())
            .fail(404, "Not found"),
        Err(error) => failed(data().with("unmounted", false), &error),
    }
}

/// The response's data with the session in the request, or null.
fn session_data(call: &Call) -> Data {
    call.data()
        .with("sessionId", call.session().map_or(Value::Null, Value::from))
}

/// The mount in the request. The order of the checks is part of the contract.
fn parse(bucket: &str, path: &str, endpoint: &str, options: &Fields) -> Result<Mount, String> {
    let endpoint = url(endpoint)?;
    if !is_bucket_name(bucket) {
        return Err(format!(
            "Invalid bucket: {bucket:?} is not 3 to 63 of a-z, 0-9, - and ., beginning and ending with a letter or digit"
        ));
    }
    if !path.starts_with('/') {
        return Err(format!("Invalid mountPath: {path:?} is not absolute"));
    }
    let prefix = options.name("prefix");
    if let Some(prefix) = prefix.filter(|prefix| !prefix.starts_with('/')) {
        return Err(format!(
            "Invalid prefix: {prefix:?} does not begin with a slash"
        ));
    }
    Ok(Mount {
        credentials: credentials(options)?,
        bucket: bucket.to_owned(),
        path: without_trailing_slash(path),
        prefix: prefix.map(str::to_owned),
        endpoint,
        provider: provider(options)?,
        read_only: flag(options, "readOnly")?,
        options: mounter_options(options)?,
    })
}

/// The path without slashes at its end; the root directory stays `/`.
fn without_trailing_slash(path: &str) -> String {
    let path = path.trim_end_matches('/');
    if path.is_empty() { "/" } else { path }.to_owned()
}

fn url(text: &str) -> Result<String, String> {
    // The service knows whether `http` is allowed.
    match AllowedEndpoints::HttpAndHttps.check(text) {
        Ok(()) => Ok(text.trim_end_matches('/').to_owned()),
        Err(_) => Err(format!(
            "Invalid endpoint: {text:?} is not an HTTP(S) URL such as https://s3.example.com"
        )),
    }
}

/// The S3 credentials in the request: both keys or none.
fn credentials(options: &Fields) -> Result<Option<S3Credentials>, String> {
    if options.get("credentials").is_none() {
        return Ok(None);
    }
    let given = options.object("credentials");
    match (given.name("accessKeyId"), given.name("secretAccessKey")) {
        (Some(id), Some(key)) => Ok(Some(S3Credentials {
            access_key_id: id.to_owned(),
            secret_access_key: key.to_owned(),
        })),
        _ => Err("Missing credentials: accessKeyId and secretAccessKey are both needed".to_owned()),
    }
}

fn provider(options: &Fields) -> Result<Option<String>, String> {
    match options.get("provider") {
        None => Ok(None),
        Some(Value::String(name)) => Ok(Some(name.trim().to_lowercase())),
        Some(_) => Err("Invalid provider: it is r2, s3, gcs or another name".to_owned()),
    }
}

fn flag(options: &Fields, name: &str) -> Result<bool, String> {
    match options.get(name) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(format!("Invalid {name}: it is true or false")),
    }
}

/// The options of s3fs. As with its `-o`, one string may contain several with commas.
fn mounter_options(options: &Fields) -> Result<Vec<String>, String> {
    let wrong = || "Invalid s3fsOptions: they are a list of strings".to_owned();
    let all = match options.get("s3fsOptions") {
        None => return Ok(Vec::new()),
        Some(given) => given.as_array().ok_or_else(wrong)?,
    };
    let mut read = Vec::new();
    for option in all {
        let option = option.as_str().ok_or_else(wrong)?.trim();
        let option = option.strip_prefix("-o").unwrap_or(option);
        let parts = option.split(',').map(str::trim);
        read.extend(parts.filter(|part| !part.is_empty()).map(str::to_owned));
    }
    Ok(read)
}

/// The options as they were sent, but without the S3 credentials.
fn without_credentials(options: &Fields) -> Value {
    options.without("credentials").into()
}

fn failed(data: Data, error: &BucketError) -> Response {
    let code = match error {
        BucketError::Invalid(_) => 400,
        BucketError::NotFound(_) => 404,
        BucketError::Busy(_) => 409,
        BucketError::Unsupported(_) => 501,
        BucketError::Failed(_) | BucketError::Service(_) => 500,
    };
    data.fail(code, &error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: &Value) -> Fields {
        Fields::read(value.to_string().as_bytes())
    }

    #[test]
    fn invalid_fields_are_reported_in_the_contracts_order() {
        let mut options = json!({"prefix": "x", "credentials": {"accessKeyId": "a"}});
        let error = |bucket: &str, path: &str, endpoint: &str, options: &Value| {
            let parsed = parse(bucket, path, endpoint, &fields(options));
            parsed
                .map(|_| ())
                .unwrap_err()
                .split(':')
                .next()
                .unwrap()
                .to_owned()
        };
        assert_eq!(error("B", "x", "ftp://x", &options), "Invalid endpoint");
        assert_eq!(error("B", "x", "https://x", &options), "Invalid bucket");
        assert_eq!(
            error("bbb", "x", "https://x", &options),
            "Invalid mountPath"
        );
        assert_eq!(error("bbb", "/x", "https://x", &options), "Invalid prefix");
        options["prefix"] = json!("/x");
        assert_eq!(
            error("bbb", "/x", "https://x", &options),
            "Missing credentials"
        );
    }

    #[test]
    fn endpoints_are_http_urls() {
        for good in [
            "https://s3.example.com",
            "http://10.0.0.1:9000/",
            "https://a/b",
        ] {
            assert!(url(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "s3.example.com",
            "ftp://x",
            "https://",
            "https://u:p@x",
            "https://x?y",
            "http://a b",
            "//x",
        ] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn s3fs_options_are_parsed_like_its_command_line() {
        let options = fields(&json!({"s3fsOptions": ["nomixupload", "-o retries=1", "a=b, c"]}));
        assert_eq!(
            mounter_options(&options).unwrap(),
            ["nomixupload", "retries=1", "a=b", "c"]
        );
        assert!(mounter_options(&fields(&json!({"s3fsOptions": "x"}))).is_err());
        assert!(mounter_options(&fields(&json!({"s3fsOptions": [1]}))).is_err());
    }

    #[test]
    fn credentials_are_not_in_the_response() {
        let options = fields(&json!({"endpoint": "e", "credentials": {"secretAccessKey": "k"}}));
        assert_eq!(without_credentials(&options), json!({"endpoint": "e"}));
    }
}
