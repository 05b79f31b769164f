{{/*
Each template takes the values of this chart, except for dexsidecar.command. It gives a YAML list, or a
manifest. Every value is written through toJson, so no value can change the structure of the manifest.
*/}}

{{/* The reference of the image. */}}
{{- define "dexsidecar.image" -}}
{{- if .image.digest }}
{{- printf "%s@%s" .image.repository .image.digest | toJson }}
{{- else }}
{{- printf "%s:%s" .image.repository .image.tag | toJson }}
{{- end }}
{{- end }}

{{/*
The sidecar's container, for initContainers. If the app waits with a program that is copied, this
container copies it. The kubelet starts the app after the hook.
*/}}
{{- define "dexsidecar.initContainer" -}}
- name: dexsidecar
  image: {{ include "dexsidecar.image" . }}
{{- if eq .mode "once" }}
  args: [once]
{{- else }}
  restartPolicy: Always
{{- if and (eq .start "wait") (eq .program "copy") }}
  args: [copy, /opt/dexsidecar/bin/dexsidecar, --, dexsidecar, run]
  lifecycle:
    postStart:
      exec:
        command: [dexsidecar, copy, /opt/dexsidecar/bin/dexsidecar]
{{- end }}
{{- end }}
  env:
    {{- include "dexsidecar.env" . | nindent 4 }}
{{- if .listenPort }}
  ports:
    - name: dexsidecar
      containerPort: {{ int .listenPort }}
{{- end }}
{{- if and (ne .mode "once") (eq .start "probe") }}
  startupProbe:
    exec:
      command: [dexsidecar, ready]
    periodSeconds: 1
    failureThreshold: 300
{{- else if eq .start "wait" }}
  readinessProbe:
    exec:
      command: [dexsidecar, ready]
    periodSeconds: 10
{{- end }}
  resources: {{ toJson .resources }}
  securityContext:
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities: {drop: [ALL]}
  volumeMounts:
    - name: dex-token
      mountPath: {{ toJson .token.directory }}
    - name: subject-token
      mountPath: /var/run/secrets/subject
      readOnly: true
{{- if and (eq .start "wait") (eq .program "copy") }}
    - name: dexsidecar
      mountPath: /opt/dexsidecar/bin
{{- end }}
{{- if .clientSecret.name }}
    - name: dex-client
      mountPath: /etc/dexsidecar/client
      readOnly: true
{{- end }}
{{- if .config.name }}
    - name: dex-config
      mountPath: /etc/dexsidecar/config
      readOnly: true
{{- end }}
{{- if .ca }}
    - name: dex-ca
      mountPath: /etc/dex
      readOnly: true
{{- end }}
{{- end }}

{{/*
The environment of the sidecar. The path of the configuration file is a variable, so that the
commands in probes know it too. A setting of one token beside a file is an error.
*/}}
{{- define "dexsidecar.env" -}}
{{- if .config.name -}}
- name: DEXSIDECAR_CONFIG
  value: /etc/dexsidecar/config/dexsidecar.yaml
{{- else -}}
- name: dex_endpoint
  value: {{ toJson .endpoint }}
- name: dex_access_token_file
  value: {{ printf "%s/%s" .token.directory .token.file | toJson }}
{{- if .clientSecret.name }}
- name: dex_file_basic_auth
  value: /etc/dexsidecar/client/basic-auth
{{- else }}
- name: dex_basic_auth
  value: {{ printf "%s:" .clientId | toJson }}
{{- end }}
- name: dex_connector_id
  value: {{ toJson .connectorId }}
- name: dex_grant_type
  value: urn:ietf:params:oauth:grant-type:token-exchange
- name: dex_scope
  value: {{ toJson .scope }}
- name: dex_requested_token_type
  value: urn:ietf:params:oauth:token-type:access_token
- name: dex_subject_token_type
  value: urn:ietf:params:oauth:token-type:id_token
- name: dex_file_subject_token
  value: /var/run/secrets/subject/token
{{- if .ca }}
- name: DEXSIDECAR_CA_FILE
  value: /etc/dex/ca.crt
{{- end }}
{{- end }}
{{- if .listenPort }}
- name: DEXSIDECAR_LISTEN
  value: {{ printf ":%d" (int .listenPort) | toJson }}
{{- end }}
{{- range .extraEnv }}
- {{ toJson . }}
{{- end }}
{{- end }}

{{/* The volumes of the pod. */}}
{{- define "dexsidecar.volumes" -}}
{{- if and (eq .start "wait") (eq .program "image") -}}
- name: dexsidecar
  image:
    reference: {{ include "dexsidecar.image" . }}
    pullPolicy: IfNotPresent
{{ else if eq .start "wait" -}}
- name: dexsidecar
  emptyDir: {sizeLimit: 8Mi}
{{ end -}}
- name: dex-token
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
- name: subject-token
  projected:
    sources:
      - serviceAccountToken:
          audience: {{ toJson .subjectToken.audience }}
          expirationSeconds: {{ int64 .subjectToken.expirationSeconds }}
          path: token
{{- with .clientSecret }}
{{- if .name }}
- name: dex-client
  secret:
    secretName: {{ toJson .name }}
    items: [{key: {{ toJson .key }}, path: basic-auth}]
{{- end }}
{{- end }}
{{- with .config }}
{{- if .name }}
- name: dex-config
  configMap:
    name: {{ toJson .name }}
    items: [{key: dexsidecar.yaml, path: dexsidecar.yaml}]
{{- end }}
{{- end }}
{{- with .ca.configMap }}
- name: dex-ca
  configMap:
    name: {{ toJson .name }}
    items: [{key: {{ toJson .key }}, path: ca.crt}]
{{- end }}
{{- with .ca.secret }}
- name: dex-ca
  secret:
    secretName: {{ toJson .name }}
    items: [{key: {{ toJson .key }}, path: ca.crt}]
{{- end }}
{{- with .ca.clusterTrustBundle }}
- name: dex-ca
  projected:
    sources:
      - clusterTrustBundle:
          name: {{ toJson .name }}
          path: ca.crt
{{- end }}
{{- end }}

{{/* The mounts of a container that reads the token. */}}
{{- define "dexsidecar.volumeMounts" -}}
- name: dex-token
  mountPath: {{ toJson .token.directory }}
  readOnly: true
{{- if eq .start "wait" }}
- name: dexsidecar
  mountPath: /opt/dexsidecar{{ if eq .program "copy" }}/bin{{ end }}
  readOnly: true
{{- end }}
{{- end }}

{{/*
The command of a container that waits for the token. Its own command follows as args. Nothing,
unless the app waits. This template takes a map of `values` and `capabilities`: image volumes need
Kubernetes 1.36.
*/}}
{{- define "dexsidecar.command" -}}
{{- with .values }}
{{- if eq .start "wait" }}
{{- $version := $.capabilities.KubeVersion.Version }}
{{- if and (eq .program "image") (not (semverCompare ">=1.36.0-0" $version)) }}
{{- fail (printf "program: image needs Kubernetes 1.36 or later, and this is %s: set program to copy" $version) }}
{{- end }}
{{- $file := printf "%s/%s" .token.directory .token.file }}
{{- list "/opt/dexsidecar/bin/dexsidecar" "wait" "--file" $file "--" | toJson }}
{{- end }}
{{- end }}
{{- end }}

{{/*
A ConfigMap with the configuration file. JSON is YAML, and keeps every text a text. Nothing, if
there is no file.
*/}}
{{- define "dexsidecar.configMap" -}}
{{- if .config.file }}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ toJson .config.name }}
data:
  dexsidecar.yaml: |
    {{- toPrettyJson .config.file | nindent 4 }}
{{- end }}
{{- end }}
