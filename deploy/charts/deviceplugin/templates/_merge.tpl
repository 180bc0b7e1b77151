{{/* A strategic merge as kustomize makes it: lists of the pod by their keys, `$patch: delete`, other
     lists whole. Takes base and patch, gives YAML. */}}
{{- define "merge.map" -}}
{{- $keys := dict "containers" "name" "initContainers" "name" "env" "name" "volumes" "name" "volumeMounts" "mountPath" "imagePullSecrets" "name" -}}
{{- $out := deepCopy .base -}}
{{- range $name, $new := .patch -}}
  {{- $old := get $out $name -}}
  {{- if kindIs "invalid" $new -}}
    {{- $_ := unset $out $name -}}
  {{- else if and (kindIs "map" $new) (kindIs "map" $old) -}}
    {{- $_ := set $out $name (include "merge.map" (dict "base" $old "patch" $new) | fromYaml) -}}
  {{- else if and (kindIs "slice" $new) (kindIs "slice" $old) (hasKey $keys $name) -}}
    {{- $_ := set $out $name (include "merge.list" (dict "key" (get $keys $name) "base" $old "patch" $new) | fromYamlArray) -}}
  {{- else -}}
    {{- $_ := set $out $name $new -}}
  {{- end -}}
{{- end -}}
{{ printf "%s\n" (toYaml $out) }}
{{- end -}}

{{- define "merge.list" -}}
{{- $key := .key -}}
{{- $patches := dict -}}
{{- range .patch -}}{{- $_ := set $patches (get . $key) . -}}{{- end -}}
{{- $out := list -}}
{{- $known := dict -}}
{{- range .base -}}
  {{- $name := get . $key -}}
  {{- $_ := set $known $name true -}}
  {{- $patch := get $patches $name -}}
  {{- if not (hasKey $patches $name) -}}
    {{- $out = append $out . -}}
  {{- else if ne (get $patch "$patch") "delete" -}}
    {{- $out = append $out (include "merge.map" (dict "base" . "patch" $patch) | fromYaml) -}}
  {{- end -}}
{{- end -}}
{{- range .patch -}}
  {{- if and (not (hasKey $known (get . $key))) (ne (get . "$patch") "delete") -}}
    {{- $out = append $out . -}}
  {{- end -}}
{{- end -}}
{{ printf "%s\n" (toYaml $out) }}
{{- end -}}
