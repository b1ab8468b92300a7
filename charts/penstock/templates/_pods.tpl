{{/* What the pods of the programs have in common. */}}

{{- define "penstock.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "penstock.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
capabilities:
  drop: [ALL]
{{- end }}

{{/* (root, service, postgresql, secret): the URL of a service's database: its own, else that of all. */}}
{{- define "penstock.databaseEnv" -}}
{{- $own := .postgresql -}}
{{- $shared := .root.Values.postgresql -}}
{{- $made := .secret | default (printf "%s-connections" .root.Release.Name) -}}
- name: PENSTOCK_{{ upper .service }}__DATABASE_URL
  valueFrom:
    secretKeyRef:
{{- if $own.existingSecret }}
      name: {{ $own.existingSecret }}
      key: {{ $own.key }}
{{- else if $own.url }}
      name: {{ $made }}
      key: {{ .service }}-postgresql-url
{{- else if $shared.existingSecret }}
      name: {{ $shared.existingSecret }}
      key: {{ $shared.key }}
{{- else }}
      name: {{ $made }}
      key: postgresql-url
{{- end }}
{{- end }}

{{/* (root, postgresql): the URL of a database, its own or that of all; empty: it stands in a Secret of yours. */}}
{{- define "penstock.databaseUrl" -}}
{{- $shared := .root.Values.postgresql -}}
{{- if not .postgresql.existingSecret -}}
{{- .postgresql.url | default (ternary "" $shared.url (ne $shared.existingSecret "")) -}}
{{- end -}}
{{- end }}

{{- define "penstock.redisEnv" -}}
- name: PENSTOCK_REDIS_URL
  valueFrom:
    secretKeyRef:
{{- if .Values.redis.existingSecret }}
      name: {{ .Values.redis.existingSecret }}
      key: {{ .Values.redis.key }}
{{- else }}
      name: {{ .Release.Name }}-connections
      key: redis-url
{{- end }}
- name: PENSTOCK_REDIS_PREFIX
  value: {{ .Values.redis.prefix | default (printf "penstock-%s" (sha256sum (printf "%s/%s" .Release.Namespace .Release.Name) | trunc 10)) }}
{{- if .Values.redis.caSecret }}
- name: PENSTOCK_REDIS_CA_FILE
  value: /etc/penstock/redis/ca.crt
{{- end }}
{{- end }}

{{/* Where blobs are; without the key. */}}
{{- define "penstock.blobsPlace" -}}
{{- if .Values.s3.endpoint }}
- name: PENSTOCK_S3_ENDPOINT
  value: {{ .Values.s3.endpoint | quote }}
{{- end }}
{{- if .Values.s3.region }}
- name: PENSTOCK_S3_REGION
  value: {{ .Values.s3.region | quote }}
{{- end }}
- name: PENSTOCK_BLOB_CACHE_BYTES
  value: {{ int64 .Values.s3.cacheBytes | quote }}
{{- end }}

{{- define "penstock.blobsEnv" -}}
- name: PENSTOCK_BLOBS_URL
{{- if .Values.s3.existingSecret }}
  valueFrom:
    secretKeyRef:
      name: {{ .Values.s3.existingSecret }}
      key: url
{{- else }}
  value: {{ .Values.s3.url | quote }}
{{- end }}
{{- include "penstock.blobsPlace" . }}
{{- include "penstock.blobsKey" . }}
{{- end }}

{{/* Who asks the store for blobs. */}}
{{- define "penstock.blobsKey" -}}
{{- $secret := .Values.s3.existingSecret | default (printf "%s-connections" .Release.Name) }}
{{- if or .Values.s3.existingSecret .Values.s3.accessKeyId }}
{{- range list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ . }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret }}
      key: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* Names that workers of each class have, as variables or keys of Secrets, for the planner's guards. */}}
{{- define "penstock.workerClasses" -}}
{{- $classes := dict -}}
{{- range $name, $class := (include "penstock.classes" . | fromJson) -}}
{{- $_ := set $classes $name (dict "environment" (concat (keys $class.env) $class.provides | uniq | sortAlpha)) -}}
{{- end -}}
{{- toJson $classes -}}
{{- end }}

{{/* (root, service, values): the environment of a program. What is told to one that has no use for it is left out. */}}
{{- define "penstock.env" -}}
{{- $root := .root -}}
{{- $service := .service -}}
- name: PENSTOCK_DATA
  value: /var/lib/penstock
- name: PENSTOCK_LOG_LEVEL
  value: {{ $root.Values.logLevel }}
- name: PENSTOCK_TLS__FOLDER
  value: /etc/penstock/tls
- name: PENSTOCK_HEALTH_PORT
  value: "7070"
{{- if $root.Values.metrics.enabled }}
- name: PENSTOCK_METRICS_HOST
  value: 0.0.0.0
- name: PENSTOCK_{{ upper $service }}__METRICS_PORT
  value: "9090"
{{- end }}
{{- if ne $service "gateway" }}
- name: PENSTOCK_{{ upper $service }}__LISTEN
  value: 0.0.0.0:7443
{{- end }}
{{- range $other := list "planner" "scheduler" "analyzer" }}
{{- if or (has $other (get $.edges $service | default list)) (eq $service "scheduler") }}
- name: PENSTOCK_{{ upper $other }}_ADDRESS
  value: {{ include "penstock.address" (dict "root" $root "service" $other "port" 7443) }}
{{- end }}
{{- end }}
- name: PENSTOCK_DATABASE__AUTO_MIGRATE
  value: "false"
{{ include "penstock.databaseEnv" (dict "root" $root "service" $service "postgresql" .values.postgresql) }}
{{ include "penstock.blobsEnv" $root }}
{{- if eq $service "planner" }}
- name: PENSTOCK_WORKER_CLASSES
  value: {{ include "penstock.workerClasses" $root | quote }}
{{- if $root.Values.processors }}
- name: PENSTOCK_PROCESSORS
  value: /etc/penstock/processors
{{- end }}
{{- end }}
{{- if eq $service "scheduler" }}
{{ include "penstock.redisEnv" $root }}
- name: PENSTOCK_SCHEDULER__BACKEND
  value: kubernetes
- name: PENSTOCK_SCHEDULER__WORKER_NAMESPACE
  value: {{ include "penstock.workerNamespace" $root }}
- name: PENSTOCK_SCHEDULER__PODS_OWNER
  value: {{ include "penstock.owner" $root }}
- name: PENSTOCK_SCHEDULER__POD_IMAGE
  value: {{ include "penstock.image" $root }}
- name: PENSTOCK_SCHEDULER__POD_PULL_POLICY
  value: {{ $root.Values.image.pullPolicy }}
- name: PENSTOCK_SCHEDULER__RELEASE
  value: {{ $root.Release.Name }}
- name: PENSTOCK_SCHEDULER__WORKER_TLS_SECRET
  value: {{ include "penstock.tlsSecret" (dict "root" $root "service" "worker") }}
{{- if $root.Values.processors }}
- name: PENSTOCK_SCHEDULER__WORKER_PROCESSORS
  value: {{ include "penstock.processors" $root }}
{{- end }}
- name: PENSTOCK_SCHEDULER__CLASSES_FILE
  value: /etc/penstock/classes/classes.yaml
{{- if not (kindIs "invalid" .values.quietSeconds) }}
- name: PENSTOCK_SCHEDULER__QUIET_SECONDS
  value: {{ .values.quietSeconds | quote }}
{{- end }}
{{- end }}
{{- if eq $service "gateway" }}
- name: PENSTOCK_GATEWAY__HOST
  value: 0.0.0.0
- name: PENSTOCK_GATEWAY__PORT
  value: "8420"
- name: PENSTOCK_GATEWAY__AUTH
  value: tokens
- name: PENSTOCK_GATEWAY__ADMIN_TOKEN_FILE
  value: /etc/penstock/admin/token
{{- with $root.Values.auth.oidc }}
{{- if .issuer }}
- name: PENSTOCK_GATEWAY__OIDC__ISSUER
  value: {{ .issuer | quote }}
- name: PENSTOCK_GATEWAY__OIDC__AUDIENCE
  value: {{ .audience | quote }}
- name: PENSTOCK_GATEWAY__OIDC__ROLE_CLAIM
  value: {{ .roleClaim | quote }}
- name: PENSTOCK_GATEWAY__OIDC__ROLES
  value: {{ toJson .roles | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- with .values.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* (root, service, values) */}}
{{- define "penstock.volumeMounts" -}}
- name: data
  mountPath: /var/lib/penstock
- name: tmp
  mountPath: /tmp
- name: tls
  mountPath: /etc/penstock/tls
  readOnly: true
{{- if .root.Values.postgresql.caSecret }}
- name: postgresql-ca
  mountPath: /etc/penstock/postgresql
  readOnly: true
{{- end }}
{{- if and (eq .service "planner") .root.Values.processors }}
- name: processors
  mountPath: /etc/penstock/processors
  readOnly: true
{{- end }}
{{- if eq .service "scheduler" }}
{{- if .root.Values.redis.caSecret }}
- name: redis-ca
  mountPath: /etc/penstock/redis
  readOnly: true
{{- end }}
- name: classes
  mountPath: /etc/penstock/classes
  readOnly: true
- name: api-server
  mountPath: /var/run/secrets/kubernetes.io/serviceaccount
  readOnly: true
{{- end }}
{{- if eq .service "gateway" }}
- name: admin-token
  mountPath: /etc/penstock/admin
  readOnly: true
{{- end }}
{{- with .values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* (name, secret): a Secret's CA as a volume. */}}
{{- define "penstock.caVolume" -}}
- name: {{ .name }}
  secret:
    secretName: {{ .secret }}
    items:
      - key: ca.crt
        path: ca.crt
{{- end }}

{{/* (root, service, values). Kubernetes' own token is projected into the scheduler alone. */}}
{{- define "penstock.volumes" -}}
- name: data
  emptyDir: {}
- name: tmp
  emptyDir: {}
- name: tls
  secret:
    secretName: {{ include "penstock.tlsSecret" . }}
    defaultMode: 0440
{{- if .root.Values.postgresql.caSecret }}
{{ include "penstock.caVolume" (dict "name" "postgresql-ca" "secret" .root.Values.postgresql.caSecret) }}
{{- end }}
{{- if and (eq .service "planner") .root.Values.processors }}
- name: processors
  configMap:
    name: {{ include "penstock.processors" .root }}
    defaultMode: 0555
{{- end }}
{{- if eq .service "scheduler" }}
{{- if .root.Values.redis.caSecret }}
{{ include "penstock.caVolume" (dict "name" "redis-ca" "secret" .root.Values.redis.caSecret) }}
{{- end }}
- name: classes
  configMap:
    name: {{ .root.Release.Name }}-classes
- name: api-server
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: 3607
      - configMap:
          name: kube-root-ca.crt
          items:
            - key: ca.crt
              path: ca.crt
      - downwardAPI:
          items:
            - path: namespace
              fieldRef:
                fieldPath: metadata.namespace
{{- end }}
{{- if eq .service "gateway" }}
- name: admin-token
  secret:
    secretName: {{ .root.Values.auth.existingSecret | default (printf "%s-admin-token" .root.Release.Name) }}
    defaultMode: 0440
    items:
      - key: {{ ternary .root.Values.auth.key "admin-token" (ne .root.Values.auth.existingSecret "") }}
        path: token
{{- end }}
{{- with .values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "penstock.pullSecrets" -}}
imagePullSecrets:
{{- range .Values.image.pullSecrets }}
  - name: {{ . }}
{{- end }}
{{- end }}
