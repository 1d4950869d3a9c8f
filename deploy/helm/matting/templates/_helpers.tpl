{{- define "matting.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "matting.tag" -}}
{{ .Values.image.tag | default (ternary "gpu" "cpu" .Values.gpu.enabled) }}
{{- end }}
{{- /* Without keys requests have nothing in common by which they could be led. */}}
{{- define "matting.affinity" -}}
{{ if ne .Values.ingress.affinity "auto" }}{{ .Values.ingress.affinity }}{{ else if .Values.keys.secret }}header{{ else }}cookie{{ end }}
{{- end }}
{{- /* Probes call a pod by its address, which a service with names of its own refuses. */}}
{{- define "matting.probeHost" -}}
{{ with .Values.settings.ALLOWED_HOSTS }}, httpHeaders: [{name: Host, value: {{ splitList "," . | first | trim }}}]{{ end }}
{{- end }}
