{{- define "hutch.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 48 | trimSuffix "-" }}
{{- end }}

{{/* Beginning of the names of all objects. A release whose name contains the chart's
     name is not repeated in it. 48 characters leave room for the suffixes. */}}
{{- define "hutch.fullname" -}}
{{- $name := include "hutch.name" . }}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- .Values.fullnameOverride | default $full | trunc 48 | trimSuffix "-" }}
{{- end }}

{{/* Labels that select the pods of a release. */}}
{{- define "hutch.instance" -}}
app.kubernetes.io/name: {{ include "hutch.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Labels that select the pods of a component: (list . "facade"). They cannot change
     after the installation. */}}
{{- define "hutch.selector" -}}
{{ include "hutch.instance" (index . 0) }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Labels of every object: (list . "facade") */}}
{{- define "hutch.labels" -}}
{{- $root := index . 0 -}}
{{ include "hutch.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | replace "+" "_" | quote }}
app.kubernetes.io/part-of: hutch
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "hutch.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Namespace of the first tenant. Projects are in it. */}}
{{- define "hutch.home" -}}
{{ (first .Values.tenants).namespace }}
{{- end }}

{{/* A tenant's size, as JSON: (list . tenant) */}}
{{- define "hutch.size" -}}
{{- $tenant := index . 1 }}
{{- $none := printf "tenant %s: there is no size %s" $tenant.namespace $tenant.size }}
{{- get (index . 0).Values.sizes $tenant.size | required $none | toJson }}
{{- end }}

{{/* Name of a component's ServiceAccount: (list . "facade") */}}
{{- define "hutch.account" -}}
{{- $component := get (index . 0).Values (index . 1) }}
{{- $component.serviceAccount.name | default (printf "%s-%s" (include "hutch.fullname" (index . 0)) (index . 1)) }}
{{- end }}

{{/* A component's user name at the API server: (list . "facade") */}}
{{- define "hutch.user" -}}
system:serviceaccount:{{ (index . 0).Release.Namespace }}:{{ include "hutch.account" . }}
{{- end }}

{{/* Settings of buckets that controller, facade and node must agree on. */}}
{{- define "hutch.bucketArgs" -}}
- --node-driver={{ .Values.node.driver }}
{{- if .Values.buckets.allowHttp }}
- --allow-http-buckets
{{- end }}
{{- end }}

{{/* Metadata of the pods of a component: (list . "facade") */}}
{{- define "hutch.podMetadata" -}}
{{- $component := get (index . 0).Values (index . 1) -}}
labels:
  {{- include "hutch.labels" . | nindent 2 }}
  {{- with $component.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $component.podAnnotations }}
annotations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Settings of the pods of each component that values.yaml gives: (list . "facade") */}}
{{- define "hutch.scheduling" -}}
{{- $component := get (index . 0).Values (index . 1) -}}
serviceAccountName: {{ include "hutch.account" . }}
# Variables of Services would look like settings.
enableServiceLinks: false
{{- with (index . 0).Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- range $key := list "priorityClassName" "nodeSelector" "affinity" "tolerations" }}
{{- with get $component $key }}
{{ $key }}: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{/* Settings of every pod of controller and facade: (list . "facade") */}}
{{- define "hutch.pod" -}}
{{- $component := get (index . 0).Values (index . 1) -}}
{{ include "hutch.scheduling" . }}
securityContext:
  runAsNonRoot: true
  seccompProfile: {type: RuntimeDefault}
topologySpreadConstraints:
{{- if $component.topologySpreadConstraints }}
  {{- toYaml $component.topologySpreadConstraints | nindent 2 }}
{{- else }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{ include "hutch.selector" . | nindent 8 }}
{{- end }}
{{- end }}

{{/* Settings of every container of controller and facade. */}}
{{- define "hutch.container" -}}
image: {{ include "hutch.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
readinessProbe:
  httpGet: {path: /readyz, port: ops}
  periodSeconds: 2
livenessProbe:
  httpGet: {path: /healthz, port: ops}
  periodSeconds: 10
  failureThreshold: 6
{{- end }}

{{/* Binding of a ClusterRole: (list . name namespace component). Without a namespace
     it is a ClusterRoleBinding. */}}
{{- define "hutch.binding" -}}
{{- $root := index . 0 }}{{ $name := index . 1 }}{{ $namespace := index . 2 }}{{ $component := index . 3 -}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ if $namespace }}RoleBinding{{ else }}ClusterRoleBinding{{ end }}
metadata:
  name: {{ include "hutch.fullname" $root }}-{{ $name }}
  {{- with $namespace }}
  namespace: {{ . }}
  {{- end }}
  labels: {{ include "hutch.labels" (list $root $component) | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ include "hutch.fullname" $root }}-{{ $name }}
subjects:
  - kind: ServiceAccount
    name: {{ include "hutch.account" (list $root $component) }}
    namespace: {{ $root.Release.Namespace }}
{{- end }}

{{/* Scope of the admission policies: the namespaces of the tenants only. */}}
{{- define "hutch.tenants" -}}
namespaceSelector:
  matchExpressions:
    - key: kubernetes.io/metadata.name
      operator: In
      values:
        {{- range .Values.tenants }}
        - {{ .namespace }}
        {{- end }}
{{- end }}
