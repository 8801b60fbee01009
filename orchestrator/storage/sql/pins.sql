-- What a study pins of the software; a user attribute, so that the dashboard shows it.

-- pin_software --
INSERT INTO study_user_attributes (study_id, key, value_json)
VALUES (%(study_id)s, 'orch:software', %(software)s::jsonb::text)
ON CONFLICT (study_id, key) DO UPDATE SET value_json = excluded.value_json

-- read_software --
SELECT value_json::jsonb AS software FROM study_user_attributes
WHERE study_id = %(study_id)s AND key = 'orch:software'

-- record_mismatch --
INSERT INTO study_user_attributes (study_id, key, value_json)
VALUES (%(study_id)s, 'orch:mismatches', jsonb_build_array(%(mismatch)s::text)::text)
ON CONFLICT (study_id, key) DO UPDATE
SET value_json = (study_user_attributes.value_json::jsonb || excluded.value_json::jsonb)::text
WHERE NOT study_user_attributes.value_json::jsonb @> excluded.value_json::jsonb

-- read_mismatches --
SELECT jsonb_array_elements_text(value_json::jsonb) AS mismatch FROM study_user_attributes
WHERE study_id = %(study_id)s AND key = 'orch:mismatches'
