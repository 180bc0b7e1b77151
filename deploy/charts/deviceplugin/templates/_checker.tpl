{{/* The pod that checks the configuration; it needs no right and no GPU. */}}
{{- define "deviceplugin.checker" -}}
restartPolicy: Never
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
tolerations:
  - operator: Exists
securityContext:
  runAsNonRoot: true
  runAsUser: 65534
  runAsGroup: 65534
  seccompProfile:
    type: RuntimeDefault
containers:
  - name: check
    image: {{ include "deviceplugin.image" . }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    args:
      - check
      - --config
      - /etc/deviceplugin
      {{- if .Values.check.allowUnsupported }}
      - --allow-unsupported
      {{- end }}
    resources:
      requests: {cpu: 50m, memory: 64Mi}
      limits: {memory: 192Mi}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities:
        drop: [ALL]
    volumeMounts:
      - name: config
        mountPath: /etc/deviceplugin
        readOnly: true
volumes:
  - name: config
    configMap:
      name: {{ .configMap | default "deviceplugin-check" }}
{{- end -}}
