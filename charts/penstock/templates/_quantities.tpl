{{/*
Sums of resources over worker classes. Quantities are read as Kubernetes reads them; CPU is counted in thousandths,
all else in whole units.
*/}}

{{/* (quantity, scale): a whole number, rounded up. */}}
{{- define "penstock.units" -}}
{{- if kindIs "string" .quantity -}}
{{- $number := regexFind "^[0-9]+([.][0-9]+)?" .quantity -}}
{{- $suffix := trimPrefix $number .quantity -}}
{{- $factors := dict "" 1.0 "m" 0.001 "k" 1000.0 "M" 1000000.0 "G" 1000000000.0 "T" 1000000000000.0 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 -}}
{{- mulf (float64 $number) (get $factors $suffix | default 1.0) .scale | ceil | int64 -}}
{{- else -}}
{{- mulf (float64 .quantity) .scale | ceil | int64 -}}
{{- end -}}
{{- end }}

{{/* (resource, units): written as a quantity. */}}
{{- define "penstock.quantity" -}}
{{- $units := int64 .units -}}
{{- if hasSuffix "cpu" .resource -}}
{{ $units }}m
{{- else if and (hasSuffix "memory" .resource | or (hasSuffix "storage" .resource)) (eq (mod $units 1048576) 0) -}}
{{ div $units 1048576 }}Mi
{{- else -}}
{{ $units }}
{{- end -}}
{{- end }}

{{/* What all pods of all classes may ask for at once: {resource: units} as JSON. Where only a limit is named, that much is
asked for. A limit that one class has not is no sum, and of devices and huge pages a quota bounds requests alone. */}}
{{- define "penstock.sums" -}}
{{- $classes := include "penstock.classes" . | fromJson -}}
{{- $sums := dict "pods" 0 -}}
{{- $seen := dict -}}
{{- $most := 0 -}}
{{- range $name, $class := $classes -}}
{{- $_ := set $sums "pods" (add $sums.pods (int64 $class.max)) -}}
{{- $requests := dict -}}
{{- range $named := list $class.resources.limits $class.resources.requests -}}
{{- range $resource, $quantity := $named -}}
{{- $_ := set $requests $resource $quantity -}}
{{- end -}}
{{- end -}}
{{- $asked := dict "requests" $requests "limits" $class.resources.limits -}}
{{- range $kind := list "requests" "limits" -}}
{{- range $resource, $quantity := (get $asked $kind) -}}
{{- $key := printf "%s.%s" $kind $resource -}}
{{- $scale := ternary 1000.0 1.0 (eq $resource "cpu") -}}
{{- $one := include "penstock.units" (dict "quantity" $quantity "scale" $scale) | int64 -}}
{{- $_ := set $sums $key (add (get $sums $key | default 0) (mul $one (int64 $class.max))) -}}
{{- $_ := set $seen $key (add (get $seen $key | default 0) 1) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $key, $count := $seen -}}
{{- $extended := regexMatch "^(requests|limits)[.](.*/|hugepages-)" $key -}}
{{- if or (and (ne (int $count) (len $classes)) (not $extended)) (and $extended (hasPrefix "limits." $key)) -}}
{{- $_ := unset $sums $key -}}
{{- end -}}
{{- end -}}
{{- toJson $sums -}}
{{- end }}
