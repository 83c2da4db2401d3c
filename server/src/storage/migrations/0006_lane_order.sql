-- Claims look at the lanes that wait, earliest first, and step over those of a full organisation or agent; without these
-- they read every lane that ever was. A dispatch moves its lane's tag, and with it these; an end does not.
create index lane_waiting on lane (organization_id, mode, agent, tag) where queued > 0;
create index lane_virtual_time on lane (virtual_time);
