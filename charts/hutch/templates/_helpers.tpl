{{- define "hutch.labels" -}}
app.kubernetes.io/name: hutch
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* What selects the pods of a component: (list . "facade") */}}
{{- define "hutch.selector" -}}
app.kubernetes.io/name: hutch
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "hutch.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Namespace of the first tenant: the one that projects are in. */}}
{{- define "hutch.home" -}}
{{ (first .Values.tenants).namespace }}
{{- end }}

{{/* A tenant's size, as JSON: (list . tenant) */}}
{{- define "hutch.size" -}}
{{- $tenant := index . 1 }}
{{- $none := printf "tenant %s: there is no size %s" $tenant.namespace $tenant.size }}
{{- get (index . 0).Values.sizes $tenant.size | required $none | toJson }}
{{- end }}

{{/* The user that a component is to the API server: (list . "facade") */}}
{{- define "hutch.user" -}}
system:serviceaccount:{{ (index . 0).Release.Namespace }}:{{ (index . 0).Release.Name }}-{{ index . 1 }}
{{- end }}

{{/* Settings that controller, facade and node must agree on about buckets. */}}
{{- define "hutch.bucketArgs" -}}
- --node-driver={{ .Values.node.driver }}
{{- if .Values.buckets.allowHttp }}
- --allow-http-buckets
{{- end }}
{{- end }}

{{/* What every pod of controller and facade has: (list . "facade") */}}
{{- define "hutch.pod" -}}
{{- $component := get (index . 0).Values (index . 1) }}
{{- with (index . 0).Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
serviceAccountName: {{ (index . 0).Release.Name }}-{{ index . 1 }}
# Variables of Services would look like settings.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  seccompProfile: {type: RuntimeDefault}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{ include "hutch.selector" . | nindent 8 }}
{{- with $component.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $component.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* And every container of theirs. */}}
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

{{/* A binding of a ClusterRole: (list . name namespace component); without a
     namespace it holds everywhere. */}}
{{- define "hutch.binding" -}}
{{- $root := index . 0 }}{{ $name := index . 1 }}{{ $namespace := index . 2 }}{{ $component := index . 3 -}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ if $namespace }}RoleBinding{{ else }}ClusterRoleBinding{{ end }}
metadata:
  name: {{ $root.Release.Name }}-{{ $name }}
  {{- with $namespace }}
  namespace: {{ . }}
  {{- end }}
  labels: {{ include "hutch.labels" $root | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ $root.Release.Name }}-{{ $name }}
subjects:
  - kind: ServiceAccount
    name: {{ $root.Release.Name }}-{{ $component }}
    namespace: {{ $root.Release.Namespace }}
{{- end }}

{{/* Where policies hold: in the namespaces of the tenants only. */}}
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
