//! The error responses of the contract, derived from what a route takes, and the security scheme.

use std::collections::BTreeMap;

use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Ref, Schema, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{HttpMethod, OpenApi, RefOr, Response};

type Schemas = BTreeMap<String, RefOr<Schema>>;

/// Completes the contract that the handlers declare.
pub fn complete(document: &mut OpenApi) {
    let components = document.components.get_or_insert_default();
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
        "A key of `segue keys create`. Not needed if the server listens on a loopback address, or with `--auth off`.",
    ));
    components.add_security_scheme("key", SecurityScheme::Http(scheme.build()));
    for (path, item) in &mut document.paths.paths {
        let operations = [
            (HttpMethod::Get, &mut item.get),
            (HttpMethod::Put, &mut item.put),
            (HttpMethod::Post, &mut item.post),
            (HttpMethod::Patch, &mut item.patch),
            (HttpMethod::Delete, &mut item.delete),
        ];
        for (method, operation) in operations {
            let Some(operation) = operation else { continue };
            if path.starts_with("/health/") {
                operation.security = Some(Vec::new());
                continue;
            }
            let inputs = Inputs::new(path, method, operation, &components.schemas);
            for (status, description) in inputs.problems() {
                // The server can respond 409 to this one too; the contract of 0.1 does not say so.
                if status == "409" && path == "/tracks/{id}/next" {
                    continue;
                }
                let is_temporary = matches!(status, "429" | "503");
                let response = problem(&description, is_temporary);
                operation.responses.responses.entry(status.to_owned()).or_insert(RefOr::T(response));
            }
        }
    }
}

/// What an operation takes, as far as its errors follow from it.
struct Inputs {
    has_parameters: bool,
    has_query: bool,
    has_body: bool,
    /// a header `If-Match`
    has_if_match: bool,
    /// a header `If-Match` or `If-None-Match`
    has_precondition: bool,
    /// a path with the id of something that may be new
    has_new_id: bool,
    /// creates what the body describes
    creates: bool,
    /// a version of a model, in the query or the body
    names_version: bool,
    /// what the path or query names, and may not exist
    named: Vec<&'static str>,
}

impl Inputs {
    fn new(path: &str, method: HttpMethod, operation: &Operation, schemas: &Schemas) -> Self {
        let parameters = operation.parameters.iter().flatten();
        let parameters: Vec<&Parameter> = parameters
            .filter_map(|parameter| match parameter {
                RefOr::T(parameter) => Some(parameter),
                RefOr::Ref(_) => None,
            })
            .collect();
        let has = |name: &str| parameters.iter().any(|parameter| parameter.name == name);
        let has_new_id =
            parameters.iter().any(|parameter| parameter.parameter_in == ParameterIn::Path && is_new(parameter));
        let names_version = has("version") || body_names_version(operation, schemas);
        let subject = match () {
            () if has_new_id => None,
            () if path.starts_with("/tracks/{id}") => Some("track"),
            () if path.starts_with("/playlists/{id}") => Some("playlist"),
            () if path == "/users/{id}" => Some("user"),
            () if path.contains("{kind}") => Some("kind of model"),
            () => None,
        };
        let named = [subject, has("cursor").then_some("cursor"), names_version.then_some("model version")];
        Self {
            has_parameters: !parameters.is_empty(),
            has_query: parameters.iter().any(|parameter| parameter.parameter_in == ParameterIn::Query),
            has_body: operation.request_body.is_some(),
            has_if_match: has("If-Match"),
            has_precondition: has("If-Match") || has("If-None-Match"),
            has_new_id,
            creates: method == HttpMethod::Post && operation.responses.responses.contains_key("201"),
            names_version,
            named: named.into_iter().flatten().collect(),
        }
    }

    /// Returns status and description of each error.
    fn problems(&self) -> Vec<(&'static str, String)> {
        let any = |status: &'static str, causes: &[(bool, &str)]| {
            let causes: Vec<&str> = causes.iter().filter_map(|(applies, cause)| applies.then_some(*cause)).collect();
            (!causes.is_empty()).then(|| (status, causes.join("; ")))
        };
        let named = format!("Unknown {}", self.named.join(" or "));
        let problems = [
            any(
                "400",
                &[(self.has_body, "Malformed JSON"), (self.has_parameters, "A path or query that is not UTF-8")],
            ),
            any("401", &[(true, "Missing or invalid API key, if the server requires one")]),
            any("403", &[(true, "The API key lacks the required scope")]),
            any("404", &[(!self.named.is_empty(), &named)]),
            any(
                "409",
                &[
                    (self.creates, "The id exists already, or a track is not in the catalog"),
                    (
                        self.has_if_match,
                        "Another request changed it at the same time, or what the body names does not exist",
                    ),
                    (self.names_version, "The model version is damaged, or can't be activated"),
                ],
            ),
            any("412", &[(self.has_precondition, "The current state is not the one that the request names")]),
            any("413", &[(self.has_body, "The body is too large")]),
            any("415", &[(self.has_body, "The body is not declared as JSON")]),
            any(
                "422",
                &[
                    (self.has_body, "An invalid field"),
                    (self.has_query, "An invalid query parameter"),
                    (self.has_new_id, "An invalid id"),
                ],
            ),
            any("429", &[(true, "Rate limit exceeded")]),
            any("500", &[(true, "Internal error")]),
            any("503", &[(true, "The catalog is unavailable, no model is loaded, or the server is overloaded")]),
        ];
        problems.into_iter().flatten().collect()
    }
}

/// Returns whether a path parameter has the schema of ids for something new.
fn is_new(parameter: &Parameter) -> bool {
    matches!(&parameter.schema, Some(RefOr::Ref(schema)) if schema.ref_location.ends_with("/Id"))
}

/// Returns whether the body has the field `version`.
fn body_names_version(operation: &Operation, schemas: &Schemas) -> bool {
    let Some(RefOr::T(body)) = &operation.request_body else { return false };
    body.content.values().any(|content| {
        let RefOr::T(content) = content else { return false };
        content.schema.as_ref().is_some_and(|schema| has_version(schema, schemas))
    })
}

fn has_version(schema: &RefOr<Schema>, schemas: &Schemas) -> bool {
    match schema {
        RefOr::Ref(schema) => {
            let name = schema.ref_location.rsplit('/').next().unwrap_or_default();
            schemas.get(name).is_some_and(|schema| has_version(schema, schemas))
        }
        RefOr::T(Schema::OneOf(optional)) => optional.items.iter().any(|schema| has_version(schema, schemas)),
        RefOr::T(Schema::Object(object)) => object.properties.contains_key("version"),
        RefOr::T(_) => false,
    }
}

/// Returns a problem document; a temporary one says when to retry.
fn problem(description: &str, is_temporary: bool) -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let response = ResponseBuilder::new().description(description).content("application/problem+json", content);
    if !is_temporary {
        return response.build();
    }
    let seconds = HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::Integer).build()))
        .description(Some("seconds after which to retry"));
    response.header("Retry-After", seconds.build()).build()
}
