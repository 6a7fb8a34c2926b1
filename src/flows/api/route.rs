//! Method and path to what is asked for. Pure (local-api 1.2, 1.3).

use crate::base::percent::percent_decode;
use crate::world::system::Power;

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    /// Is anyone there?
    Ping,
    /// `GET /v3/status`.
    Status,
    /// `GET /v3/device`.
    Device,
    /// `GET /v3/device/capabilities`.
    Capabilities,
    /// `GET /v3/device/apps/{uuid}`.
    App(String),
    /// `POST /v3/device/apps/{uuid}`.
    SetApp(String),
    /// `DELETE /v3/device/apps/{uuid}`.
    RemoveApp(String),
    /// `POST /v1/update`.
    Update,
    /// `POST /v1/reboot`, `POST /v3/device/shutdown` and so on.
    Power(Power),
    /// The path exists, with these methods.
    WrongMethod(&'static str),
    /// The app's uuid is no text.
    BadUuid,
    /// There is no such path.
    Unknown,
}

/// Paths are matched exactly: case counts, and so does a slash at the end.
#[must_use]
pub fn route(method: &str, path: &str) -> Route {
    let get = matches!(method, "GET" | "HEAD");
    let only_get = |route| {
        if get {
            route
        } else {
            Route::WrongMethod("GET,HEAD")
        }
    };
    let only_post = |route| match method {
        "POST" => route,
        _ => Route::WrongMethod("POST"),
    };
    match path {
        "/ping" => only_get(Route::Ping),
        "/v3/status" => only_get(Route::Status),
        "/v3/device" => only_get(Route::Device),
        "/v3/device/capabilities" => only_get(Route::Capabilities),
        "/v1/update" => only_post(Route::Update),
        "/v1/reboot" | "/v3/device/reboot" => only_post(Route::Power(Power::Reboot)),
        "/v1/shutdown" | "/v3/device/shutdown" => only_post(Route::Power(Power::Off)),
        _ => match path.strip_prefix("/v3/device/apps/") {
            Some(segment) if !segment.is_empty() && !segment.contains('/') => app(method, segment),
            _ => Route::Unknown,
        },
    }
}

fn app(method: &str, segment: &str) -> Route {
    let route: fn(String) -> Route = match method {
        "GET" | "HEAD" => Route::App,
        "POST" => Route::SetApp,
        "DELETE" => Route::RemoveApp,
        _ => return Route::WrongMethod("GET,HEAD,DELETE,POST"),
    };
    percent_decode(segment).map_or(Route::BadUuid, route)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn la_1_2_routes() {
        let app = || "a/b".to_owned();
        #[rustfmt::skip]
        let cases = [
            ("GET", "/ping", Route::Ping),
            ("HEAD", "/v3/status", Route::Status),
            ("POST", "/v3/status", Route::WrongMethod("GET,HEAD")),
            ("GET", "/v3/device", Route::Device),
            ("GET", "/v3/device/", Route::Unknown),
            ("GET", "/V3/device", Route::Unknown),
            ("GET", "/v3/device/capabilities", Route::Capabilities),
            ("POST", "/v3/device/capabilities", Route::WrongMethod("GET,HEAD")),
            ("GET", "/v3/device/apps", Route::Unknown),
            ("GET", "/v3/device/apps/", Route::Unknown),
            ("GET", "/v3/device/apps/a%2Fb", Route::App(app())),
            ("POST", "/v3/device/apps/a%2fb", Route::SetApp(app())),
            ("DELETE", "/v3/device/apps/a%2Fb", Route::RemoveApp(app())),
            ("PUT", "/v3/device/apps/x", Route::WrongMethod("GET,HEAD,DELETE,POST")),
            ("GET", "/v3/device/apps/a/b", Route::Unknown),
            ("GET", "/v3/device/apps/%ff", Route::BadUuid),
            ("POST", "/v1/update", Route::Update),
            ("GET", "/v1/update", Route::WrongMethod("POST")),
            ("POST", "/v1/reboot", Route::Power(Power::Reboot)),
            ("POST", "/v3/device/shutdown", Route::Power(Power::Off)),
            ("GET", "/v1/shutdown", Route::WrongMethod("POST")),
            ("OPTIONS", "/ping", Route::WrongMethod("GET,HEAD")),
            ("GET", "/", Route::Unknown),
        ];
        for (method, path, want) in cases {
            assert_eq!(route(method, path), want, "{method} {path}");
        }
    }
}
