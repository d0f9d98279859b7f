{{- define "stagecraft.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- /* Short enough for the longest suffix: names of Services and labels hold 63 characters. */}}
{{- define "stagecraft.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "stagecraft.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "stagecraft.operator" -}}{{ include "stagecraft.fullname" . }}-operator{{- end }}
{{- define "stagecraft.gateway" -}}{{ include "stagecraft.fullname" . }}-gateway{{- end }}
{{- define "stagecraft.redis" -}}{{ include "stagecraft.fullname" . }}-redis{{- end }}

{{- /* Cluster-wide objects of releases in different namespaces must not meet. */}}
{{- define "stagecraft.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "stagecraft.fullname" .) -}}
{{- end }}

{{- /* ClusterRoles that the operator binds in the namespaces of Workflows: of stages that deploy, and of the gateway for keys of models. */}}
{{- define "stagecraft.modelKeysRole" -}}{{ include "stagecraft.clusterName" . }}-model-keys{{- end }}
{{- define "stagecraft.deployerRole" -}}{{ include "stagecraft.clusterName" . }}-deployer{{- end }}

{{- /* Arguments: context, component. */}}
{{- define "stagecraft.selector" -}}
app.kubernetes.io/name: {{ include "stagecraft.name" .context }}
app.kubernetes.io/instance: {{ .context.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "stagecraft.labels" -}}
{{ include "stagecraft.selector" . }}
app.kubernetes.io/version: {{ .context.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .context.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .context.Chart.Name .context.Chart.Version }}
{{- end }}

{{- /* Arguments: context, image, value (its name, for the message). */}}
{{- define "stagecraft.image" -}}
{{- $repository := .image.repository -}}
{{- if not $repository -}}
{{- fail (printf "%s.image.repository is empty: name the repository that holds your image, for example --set %s.image.repository=registry.example.com/stagecraft/%s" .value .value (kebabcase .value)) -}}
{{- end -}}
{{- with .context.Values.global.imageRegistry -}}
{{- /* The first part of a repository names a registry when it looks like a host. */ -}}
{{- $path := regexReplaceAll "^(localhost|[^/]*[.:][^/]*)/" $repository "" -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) $path -}}
{{- end -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .context.Chart.AppVersion .image.tag) -}}
{{- end -}}
{{- end }}

{{- define "stagecraft.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "stagecraft.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{- /* Where Pods go. Arguments: context, values (of the component). */}}
{{- define "stagecraft.scheduling" -}}
{{- with .context.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "stagecraft.logEnvironment" -}}
- name: STAGECRAFT_LOG_FORMAT
  value: {{ .Values.log.format }}
- name: RUST_LOG
  value: {{ .Values.log.level | quote }}
{{- end }}

{{- define "stagecraft.redisEnvironment" -}}
- name: STAGECRAFT_REDIS_URL
  value: {{ .Values.redis.external.url | default (printf "redis://%s:6379" (include "stagecraft.redis" .)) | quote }}
{{- if include "stagecraft.redisSecret" . }}
- name: STAGECRAFT_REDIS_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ include "stagecraft.redisSecret" . }}
      key: {{ include "stagecraft.redisSecretKey" . }}
{{- end }}
{{- end }}

{{- /* Empty for an external Redis without a password. */}}
{{- define "stagecraft.redisSecret" -}}
{{- if .Values.redis.existingSecret -}}
{{- .Values.redis.existingSecret -}}
{{- else if not .Values.redis.external.url -}}
{{- include "stagecraft.redis" . -}}
{{- end -}}
{{- end }}

{{- define "stagecraft.redisSecretKey" -}}
{{- if .Values.redis.existingSecret }}{{ .Values.redis.existingSecretKey }}{{ else }}password{{ end -}}
{{- end }}

{{- define "stagecraft.gatewayTlsSecret" -}}
{{- .Values.gateway.tls.existingSecret | default (printf "%s-tls" (include "stagecraft.gateway" .)) -}}
{{- end }}

{{- /*
What is made once for each release: the gateway's certificates and the password of Redis, as YAML. Kept where the Secret
exists already. Each call of genCA and randAlphaNum gives another answer, so the first answer is remembered for the rest of
this rendering: Secrets and the checksums of Pods must agree.
*/}}
{{- define "stagecraft.made" -}}
{{- if not (hasKey .Values "madeOnce") -}}
{{- $made := dict -}}
{{- if not .Values.gateway.tls.existingSecret -}}
{{- $old := lookup "v1" "Secret" .Release.Namespace (include "stagecraft.gatewayTlsSecret" .) -}}
{{- if $old -}}
{{- $_ := set $made "ca.crt" (index $old.data "ca.crt") -}}
{{- $_ := set $made "tls.crt" (index $old.data "tls.crt") -}}
{{- $_ := set $made "tls.key" (index $old.data "tls.key") -}}
{{- else -}}
{{- $host := printf "%s.%s.svc" (include "stagecraft.gateway" .) .Release.Namespace -}}
{{- $ca := genCA (printf "%s certificate authority" (include "stagecraft.fullname" .)) 3650 -}}
{{- $certificate := genSignedCert (include "stagecraft.gateway" .) nil (list $host) 3650 $ca -}}
{{- $_ := set $made "ca.crt" (b64enc $ca.Cert) -}}
{{- $_ := set $made "tls.crt" (b64enc $certificate.Cert) -}}
{{- $_ := set $made "tls.key" (b64enc $certificate.Key) -}}
{{- end -}}
{{- end -}}
{{- if not (or .Values.redis.existingSecret .Values.redis.external.url) -}}
{{- $old := lookup "v1" "Secret" .Release.Namespace (include "stagecraft.redis" .) -}}
{{- if $old -}}
{{- $_ := set $made "password" (index $old.data "password") -}}
{{- else -}}
{{- $_ := set $made "password" (b64enc (randAlphaNum 40)) -}}
{{- end -}}
{{- end -}}
{{- $_ := set .Values "madeOnce" $made -}}
{{- end -}}
{{- toYaml .Values.madeOnce -}}
{{- end }}

{{- /* Pods that read a Secret at start begin anew when it changes. Arguments: context, entries. */}}
{{- define "stagecraft.checksum" -}}
{{- $made := include "stagecraft.made" .context | fromYaml -}}
{{- $picked := pick $made "password" -}}
{{- if has "ca.crt" .entries }}{{ $picked = pick $made "password" "ca.crt" }}{{ end -}}
{{- if $picked }}
stagecraft.dev/secrets: {{ toYaml $picked | sha256sum | trunc 16 | quote }}
{{- end }}
{{- end }}

{{- /* The NetworkPolicy of stage Pods, whichever namespace it is put into. Loopback is not subject to policies. */}}
{{- define "stagecraft.stagePolicy" -}}
podSelector:
  matchExpressions:
    - {key: stagecraft.dev/workflow-uid, operator: Exists}
policyTypes: [Ingress, Egress]
egress:
  - to:
      - namespaceSelector:
          matchLabels:
            kubernetes.io/metadata.name: {{ .Release.Namespace }}
        podSelector:
          matchLabels:
            {{- include "stagecraft.selector" (dict "context" . "component" "gateway") | nindent 12 }}
    ports:
      - {protocol: TCP, port: 8443}
{{- end }}

{{- /* What stages that deploy may reach beside that, whichever namespace it is put into. Policies add up. */}}
{{- define "stagecraft.deployerPolicy" -}}
podSelector:
  matchLabels:
    stagecraft.dev/permissions: deploy
policyTypes: [Egress]
egress:
  - ports:
      - {protocol: TCP, port: 443}
      - {protocol: TCP, port: 6443}
    {{- with .Values.networkPolicy.apiServer }}
    to:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  - to:
      - podSelector:
          matchExpressions:
            - {key: stagecraft.dev/project, operator: Exists}
    ports:
      - {protocol: TCP, port: 8080}
{{- end }}
