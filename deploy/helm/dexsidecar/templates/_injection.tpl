{{/*
The variable built_in_defaults of the mutating policy, its second: a map of CEL. Every value is
written through toJson: the escapes of JSON strings are escapes of CEL strings, so no value can change
the expression.
*/}}
{{- define "dexsidecar.injection.defaults" -}}
{{- $memory := .resources.requests.memory | trimSuffix "Mi" | int }}
{{- if gt $memory (.resources.limits.memory | trimSuffix "Mi" | int) }}
{{- fail "injection.resources.requests.memory is more than injection.resources.limits.memory: raise the limit" }}
{{- end }}
{{- $repository := required "injection.image.repository is missing: set it to the sidecar's image in your registry" .image.repository }}
{{- $image := printf "%s:%s" $repository .image.tag }}
{{- if .image.digest }}
{{- $image = printf "%s@%s" $repository .image.digest }}
{{- end -}}
{"image": {{ toJson $image }},
 "endpoint": {{ required "injection.endpoint is missing: set it to Dex's issuer followed by /token" .endpoint | toJson }},
 "client-id": {{ toJson .clientId }},
 "connector": {{ toJson .connectorId }},
 "scope": {{ toJson .scope }},
 "path": {{ printf "%s/%s" .token.directory .token.file | toJson }},
 "audience": {{ toJson .subjectToken.audience }},
 "expiration-seconds": {{ .subjectToken.expirationSeconds | int64 | toString | toJson }},
 "start": {{ toJson .start }},
 "listen-port": {{ if .listenPort }}{{ .listenPort | int | toString | toJson }}{{ else }}""{{ end }},
 "ca-configmap": {{ dig "configMap" "name" "" .ca | toJson }},
 "ca-secret": {{ dig "secret" "name" "" .ca | toJson }},
 "ca-trust-bundle": {{ dig "clusterTrustBundle" "name" "" .ca | toJson }},
 "cpu-request": {{ toJson .resources.requests.cpu }},
 "memory-request": {{ toJson .resources.requests.memory }},
 "memory-limit": {{ toJson .resources.limits.memory }}}
{{- end }}
