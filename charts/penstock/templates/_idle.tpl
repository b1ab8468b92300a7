{{/*
Values that do nothing beside others. Most are left over where a switch was turned off: they may stay, and NOTES names
them. Refused are those by which somebody would believe himself safe, or let in, who is not: whose CA signs or is asked
for, whom an issuer lets in, which database user or token is used, which keys a class has. What only widens what nothing
narrows (egress of a program, without NetworkPolicies) is no such value, nor is a tag beside a digest. Defaults are
written here again, since a template does not see them: were one not so, a value that nobody set would be named.
*/}}

{{/*
Rows of YAML. used: whether they do something; while: what they do nothing beside; mend: what gives them a use, in rows
that are refused.
*/}}
{{- define "penstock.idleTable" -}}
{{- with .Values.tls.mode }}
- {used: {{ eq . "chart" }}, while: tls.mode is {{ . }}, mend: set tls.mode to chart, values: {tls.chart.days: 730, tls.chart.generation: 1}}
- used: {{ eq . "certManager" }}
  while: tls.mode is {{ . }}
  mend: set tls.mode to certManager
  values:
    tls.certManager.issuerRef.name: ""
    tls.certManager.issuerRef.kind: ClusterIssuer
    tls.certManager.issuerRef.group: cert-manager.io
    tls.certManager.duration: 2160h
    tls.certManager.renewBefore: 720h
- used: {{ eq . "secrets" }}
  while: tls.mode is {{ . }}
  mend: set tls.mode to secrets
  values:
    {{- range list "planner" "scheduler" "analyzer" "gateway" "client" "worker" }}
    tls.secrets.{{ . }}: ""
    {{- end }}
{{- end }}
- used: {{ .Values.migrations.enabled }}
  while: migrations.enabled is false
  values:
    migrations.hook: false
    migrations.annotations: {}
    migrations.backoffLimit: 10
    migrations.activeDeadlineSeconds: 1800
    migrations.postgresql.url: ""
    migrations.postgresql.existingSecret: ""
{{- with .Values.metrics }}
- used: {{ .enabled }}
  while: metrics.enabled is false
  values:
    metrics.serviceMonitor.enabled: false
    metrics.rules.enabled: false
    metrics.dashboards.enabled: false
    networkPolicy.metricsFrom: []
- {used: {{ .serviceMonitor.enabled }}, while: metrics.serviceMonitor.enabled is false, values: {metrics.serviceMonitor.labels: {}, metrics.serviceMonitor.interval: 30s}}
- {used: {{ .rules.enabled }}, while: metrics.rules.enabled is false, values: {metrics.rules.labels: {}, metrics.rules.pages: docs/operating/}}
- {used: {{ .dashboards.enabled }}, while: metrics.dashboards.enabled is false, values: {metrics.dashboards.labels: {grafana_dashboard: "1"}}}
{{- end }}
- {used: {{ .Values.ingress.enabled }}, while: ingress.enabled is false, values: {ingress.className: "", ingress.host: "", ingress.tlsSecret: "", ingress.annotations: {}}}
- {used: {{ .Values.httpRoute.enabled }}, while: httpRoute.enabled is false, values: {httpRoute.parentRefs: [], httpRoute.hostnames: [], httpRoute.annotations: {}}}
- {used: {{ .Values.tests.enabled }}, while: tests.enabled is false, values: {tests.seconds: 300}}
- used: {{ .Values.networkPolicy.enabled }}
  while: networkPolicy.enabled is false
  values:
    networkPolicy.dns.cidrs: []
    networkPolicy.dns.ports: [53]
    networkPolicy.gatewayFrom: []
    networkPolicy.metricsFrom: []
    {{- range list "apiServer" "postgresql" "redis" "s3" "oidc" }}
    networkPolicy.egress.{{ . }}.cidrs: []
    networkPolicy.egress.{{ . }}.ports: {{ ternary "[443, 6443]" "[]" (eq . "apiServer") }}
    {{- end }}
- used: {{ not (empty .Values.auth.oidc.issuer) }}
  while: auth.oidc.issuer is empty
  mend: set that
  values: {auth.oidc.roleClaim: roles, networkPolicy.egress.oidc.cidrs: [], networkPolicy.egress.oidc.ports: []}
{{- range $service, $replicas := dict "analyzer" 1 "gateway" 2 }}
{{- $scaled := (get $.Values $service).autoscaling.enabled }}
- used: {{ not $scaled }}
  while: {{ $service }}.autoscaling.enabled is true
  values: { {{- $service }}.replicas: {{ $replicas }}}
- used: {{ $scaled }}
  while: {{ $service }}.autoscaling.enabled is false
  values: { {{- $service }}.autoscaling.minReplicas: 2, {{ $service }}.autoscaling.maxReplicas: 6, {{ $service }}.autoscaling.targetCPUUtilizationPercentage: 75}
{{- end }}
{{- /* Without one of its own, a service has the URL of all, and with it rights that it should not have. */ -}}
{{- range $path := list "postgresql" "redis" "planner.postgresql" "scheduler.postgresql" "analyzer.postgresql" "gateway.postgresql" "migrations.postgresql" }}
{{- $place := (include "penstock.at" (dict "values" $.Values "path" $path) | fromJson).it }}
- used: {{ not (empty $place.existingSecret) }}
  while: {{ $path }}.existingSecret is empty
  {{- if and (contains "." $path) (not $place.url) (or $.Values.migrations.enabled (ne $path "migrations.postgresql")) }}
  mend: set that
  {{- end }}
  values: { {{- $path }}.key: url}
{{- end }}
- {used: {{ not (empty .Values.auth.existingSecret) }}, while: auth.existingSecret is empty, mend: set that, values: {auth.key: admin-token}}
- {used: {{ not (regexMatch "^redis(\\+sentinel)?://" (.Values.redis.url | default "")) }}, while: redis.url has no TLS, mend: "write rediss there", values: {redis.caSecret: ""}}
{{- end }}

{{/* (values, path): {it: what stands there} as JSON; of what is not there, null. */}}
{{- define "penstock.at" -}}
{{- $at := .values -}}
{{- range splitList "." .path -}}
{{- $at = ternary (get ($at | default dict) .) nil (kindIs "map" $at) -}}
{{- end -}}
{{- toJson (dict "it" $at) -}}
{{- end }}

{{/* As JSON, {rows: []}: those rows that are of no use, each with the paths that are set all the same. */}}
{{- define "penstock.idle" -}}
{{- $idle := list -}}
{{- range $row := include "penstock.idleTable" . | fromYamlArray -}}
{{- $paths := list -}}
{{- range $path := keys $row.values | sortAlpha -}}
{{- $it := (include "penstock.at" (dict "values" $.Values "path" $path) | fromJson).it -}}
{{- if not (or $row.used (kindIs "invalid" $it) (eq (toJson $it) (toJson (get $row.values $path)))) -}}
{{- $paths = append $paths $path -}}
{{- end -}}
{{- end -}}
{{- if $paths -}}
{{- $idle = append $idle (dict "while" $row.while "mend" ($row.mend | default "") "paths" $paths) -}}
{{- end -}}
{{- end -}}
{{- toJson (dict "rows" $idle) -}}
{{- end }}

{{/* How a value is left out where an upgrade keeps all others. */}}
{{- define "penstock.leftOut" -}}
(with reused values:{{ range . }} --set {{ . }}=null{{ end }})
{{- end }}

{{- define "penstock.idleProblems" -}}
{{- range $row := (include "penstock.idle" . | fromJson).rows }}
{{- if $row.mend }}
{{- range $path := $row.paths }}
- {{ $path }} is set, and does nothing while {{ $row.while }}: {{ $row.mend }}, or leave it out {{ include "penstock.leftOut" (list $path) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $name, $class := include "penstock.classes" . | fromJson }}
{{- if and $class.provides (not $class.secrets) }}
{{- $path := printf "worker.classes.%s" $name }}
- {{ $path }}.provides names keys, and {{ $name }} has no secrets that they could be in: set {{ $path }}.secrets, or leave it out {{ include "penstock.leftOut" (list (printf "%s.provides" $path)) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "penstock.idleNotes" -}}
{{- range $row := (include "penstock.idle" . | fromJson).rows }}
{{- if not $row.mend }}
Has no effect while {{ $row.while }}: {{ join ", " $row.paths }}
{{- end }}
{{- end }}
{{- end }}
