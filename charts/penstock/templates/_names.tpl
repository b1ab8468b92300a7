{{/*
Names, labels and what each program is. A name carries the release; one that the whole cluster shares carries the
namespace too, before the release and with a dot, which no namespace's name has: so no two are alike.
*/}}

{{- define "penstock.services" -}}
[planner, scheduler, analyzer, gateway]
{{- end }}

{{/* Who may have a database URL of its own, and uses it. */}}
{{- define "penstock.databaseUsers" -}}
[planner, scheduler, analyzer, gateway{{ if .Values.migrations.enabled }}, migrations{{ end }}]
{{- end }}

{{- define "penstock.clusterName" -}}
{{ .Release.Namespace }}.{{ .Release.Name }}.workers
{{- end }}

{{- define "penstock.workerNamespace" -}}
{{ .Values.worker.namespace | default (printf "%s-workers" .Release.Name) }}
{{- end }}

{{- define "penstock.owner" -}}
{{ .Release.Name }}-workers
{{- end }}

{{/* (root, component): the labels of an object. */}}
{{- define "penstock.labels" -}}
{{ include "penstock.selector" . }}
app.kubernetes.io/part-of: penstock
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* (root, component): what selects pods; never changes. */}}
{{- define "penstock.selector" -}}
app.kubernetes.io/name: penstock
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "penstock.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* A worker class with all that its values leave out. (root, class) -> JSON. */}}
{{- define "penstock.class" -}}
{{- $defaults := dict "image" "" "slots" 32 "max" 1 "resources" dict "graceSeconds" 60 "nodeSelector" dict "tolerations" list "affinity" dict "runtimeClass" "" "priorityClass" "" "queueName" "" "secrets" list "provides" list "env" dict "egress" list -}}
{{- /* Not `merge`, which takes a 0 for nothing said: max 0 drains a class. */ -}}
{{- $class := $defaults -}}
{{- range $key, $value := .class -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $_ := set $class $key $value -}}
{{- end -}}
{{- end -}}
{{- if not $class.image -}}
{{- $_ := set $class "image" (include "penstock.image" .root) -}}
{{- end -}}
{{- toJson $class -}}
{{- end }}

{{/* Classes by name, those that were taken out (null) left out: -> JSON. */}}
{{- define "penstock.classes" -}}
{{- $classes := dict -}}
{{- range $name, $class := .Values.worker.classes -}}
{{- if $class -}}
{{- $_ := set $classes $name (include "penstock.class" (dict "root" $ "class" $class) | fromJson) -}}
{{- end -}}
{{- end -}}
{{- toJson $classes -}}
{{- end }}

{{/* The part of a class's name that stands in the names of its pods. */}}
{{- define "penstock.shortClass" -}}
{{- trunc 20 . | trimAll "-" -}}
{{- end }}

{{/* The ConfigMap with declared processors, in both namespaces. */}}
{{- define "penstock.processors" -}}
{{ .Release.Name }}-processors
{{- end }}

{{/* The Secret of the workers' key to the blobs; empty: they have none. */}}
{{- define "penstock.workerBlobsSecret" -}}
{{- if .Values.s3.workerSecret -}}
{{ .Values.s3.workerSecret }}
{{- else if .Values.s3.accessKeyId -}}
{{ .Release.Name }}-worker-s3
{{- end -}}
{{- end }}

{{/* (root, service): the Secret with its certificate. */}}
{{- define "penstock.tlsSecret" -}}
{{- $given := "" -}}
{{- if eq .root.Values.tls.mode "secrets" -}}
{{- $given = get .root.Values.tls.secrets .service -}}
{{- end -}}
{{- $given | default (printf "%s-%s-tls" .root.Release.Name .service) -}}
{{- end }}

{{/* (root, service, port): its address, from any namespace. */}}
{{- define "penstock.address" -}}
{{ .root.Release.Name }}-{{ .service }}.{{ .root.Release.Namespace }}.svc:{{ .port }}
{{- end }}

{{/* Who calls whom by gRPC: {caller: [called]} as JSON. A client, which is no program of the release, calls them all. */}}
{{- define "penstock.edges" -}}
{{- $edges := dict "client" (list "planner" "scheduler" "analyzer") -}}
{{- range (.Files.Get "files/edges.yaml" | fromYaml).edges -}}
{{- $_ := set $edges .from (append (get $edges .from | default list) .to) -}}
{{- end -}}
{{- toJson $edges -}}
{{- end }}
