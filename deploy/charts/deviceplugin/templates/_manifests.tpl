{{/* The text of a file of deploy/, for this release's namespace and the node's kubelet directory. */}}
{{- define "deviceplugin.file" -}}
{{- $text := .root.Files.Get (printf "files/%s" .path) -}}
{{- if not $text -}}{{- fail (printf "the chart has no %s" .path) -}}{{- end -}}
{{- $text | replace "kube-system" .root.Release.Namespace | replace "/var/lib/kubelet" (trimSuffix "/" .root.Values.kubeletDir) -}}
{{- end -}}

{{/* Names of components that are on, those they bring first. */}}
{{- define "deviceplugin.components" -}}
{{- $names := list -}}
{{- range $name := list "config-label-api" "dra" "events" "facts" "labels-api" "metrics-review" "partitions-labels" -}}
  {{- if index $.Values.components $name -}}{{- $names = append $names "account" -}}{{- end -}}
{{- end -}}
{{- $names = uniq $names -}}
{{- range $name, $on := .Values.components -}}
  {{- if $on -}}{{- $names = append $names $name -}}{{- end -}}
{{- end -}}
{{- if eq (len .Values.vendors) 1 -}}
  {{- $names = append $names (printf "only-%s" (first .Values.vendors)) -}}
{{- end -}}
{{- toYaml $names -}}
{{- end -}}

{{- define "deviceplugin.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* A pod's containers with the release's image where they have ours. */}}
{{- define "deviceplugin.images" -}}
{{- $root := .root -}}
{{- range $kind := list "initContainers" "containers" -}}
  {{- range index $.pod $kind -}}
    {{- if hasPrefix "deviceplugin:" .image -}}
      {{- $_ := set . "image" (include "deviceplugin.image" $root) -}}
      {{- $_ := set . "imagePullPolicy" $root.Values.image.pullPolicy -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- with $root.Values.imagePullSecrets -}}{{- $_ := set $.pod "imagePullSecrets" . -}}{{- end -}}
{{- end -}}

{{/* One object with the labels of Helm and, where it has one of ours, the release's own. */}}
{{- define "deviceplugin.object" -}}
{{- $object := .object -}}
{{- $labels := dict "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version) "app.kubernetes.io/managed-by" .root.Release.Service "app.kubernetes.io/instance" .root.Release.Name -}}
{{- $metadata := $object.metadata -}}
{{- $_ := set $metadata "labels" (merge (dict) ($metadata.labels | default dict) $labels) -}}
---
{{ toYaml $object }}
{{ end -}}

{{/* The DaemonSet or the ConfigMap with what all components that are on make of it. */}}
{{- define "deviceplugin.patched" -}}
{{- $root := .root -}}
{{- $object := include "deviceplugin.file" (dict "root" $root "path" .base) | fromYaml -}}
{{- range $path := .paths -}}
  {{- if $root.Files.Get (printf "files/%s" $path) -}}
    {{- $patch := include "deviceplugin.file" (dict "root" $root "path" $path) | fromYaml -}}
    {{- $object = include "merge.map" (dict "base" $object "patch" $patch) | fromYaml -}}
  {{- end -}}
{{- end -}}
{{ printf "%s\n" (toYaml $object) }}
{{- end -}}

{{/* Files of the ConfigMap, by name. */}}
{{- define "deviceplugin.config" -}}
{{- $paths := list -}}
{{- range (include "deviceplugin.components" . | fromYamlArray) -}}
  {{- $paths = append $paths (printf "components/%s/config.yaml" .) -}}
{{- end -}}
{{- $map := include "deviceplugin.patched" (dict "root" . "base" "config.yaml" "paths" $paths) | fromYaml -}}
{{- $data := $map.data -}}
{{- if .Values.config -}}
  {{- $_ := unset $data "config.yaml" -}}
  {{- range $name, $content := .Values.config -}}
    {{- $_ := set $data $name (kindIs "string" $content | ternary $content (printf "%s\n" (toYaml $content))) -}}
  {{- end -}}
{{- end -}}
{{ printf "%s\n" (toYaml (set $map "data" $data)) }}
{{- end -}}

{{/* What the values say about the pod, as one more patch. */}}
{{- define "deviceplugin.pod" -}}
{{- $container := dict "name" "deviceplugin" -}}
{{- $env := .Values.extraEnv -}}
{{- if gt (len .Values.vendors) 1 -}}
  {{- $env = prepend $env (dict "name" "DEVICEPLUGIN_VENDORS" "value" (join "," .Values.vendors)) -}}
{{- end -}}
{{- with $env -}}{{- $_ := set $container "env" . -}}{{- end -}}
{{- with .Values.extraVolumeMounts -}}{{- $_ := set $container "volumeMounts" . -}}{{- end -}}
{{- $pod := dict "containers" (list $container) -}}
{{- range $name := list "nodeSelector" "tolerations" "priorityClassName" "runtimeClassName" -}}
  {{- with index $.Values $name -}}{{- $_ := set $pod $name . -}}{{- end -}}
{{- end -}}
{{- with .Values.extraVolumes -}}{{- $_ := set $pod "volumes" . -}}{{- end -}}
{{- $metadata := dict -}}
{{- with .Values.podLabels -}}{{- $_ := set $metadata "labels" . -}}{{- end -}}
{{- with .Values.podAnnotations -}}{{- $_ := set $metadata "annotations" . -}}{{- end -}}
{{- $spec := dict "template" (dict "metadata" $metadata "spec" $pod) -}}
{{ printf "%s\n" (toYaml (dict "spec" $spec)) }}
{{- end -}}

{{/* The DaemonSet. What replaces a whole part is set last: a patch would only add to it. */}}
{{- define "deviceplugin.daemonset" -}}
{{- $paths := list -}}
{{- range (include "deviceplugin.components" . | fromYamlArray) -}}
  {{- $paths = append $paths (printf "components/%s/daemonset.yaml" .) -}}
{{- end -}}
{{- range $name, $on := .Values.patches -}}
  {{- if $on -}}{{- $paths = append $paths (printf "patches/%s.yaml" $name) -}}{{- end -}}
{{- end -}}
{{- $object := include "deviceplugin.patched" (dict "root" . "base" "daemonset.yaml" "paths" $paths) | fromYaml -}}
{{- $object = include "merge.map" (dict "base" $object "patch" (include "deviceplugin.pod" . | fromYaml)) | fromYaml -}}
{{- $_ := include "deviceplugin.images" (dict "root" . "pod" $object.spec.template.spec) -}}
{{- with .Values.updateStrategy -}}{{- $_ := set $object.spec "updateStrategy" . -}}{{- end -}}
{{- with .Values.affinity -}}{{- $_ := set $object.spec.template.spec "affinity" . -}}{{- end -}}
{{- with .Values.resources -}}{{- $_ := set (first $object.spec.template.spec.containers) "resources" . -}}{{- end -}}
{{ printf "%s\n" (toYaml $object) }}
{{- end -}}
