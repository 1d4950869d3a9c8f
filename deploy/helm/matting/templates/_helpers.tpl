{{- define "matting.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "matting.tag" -}}
{{ if .Values.gpu.enabled }}gpu{{ else }}{{ .Values.image.tag }}{{ end }}
{{- end }}
